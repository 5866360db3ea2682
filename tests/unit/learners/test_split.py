import numpy as np
import pytest
import torch
from torch import nn

from fedagg_edge.errors import ConfigError
from fedagg_edge.learners.split import Extractor, default_cut
from fedagg_edge.learners.torch import TorchLearner
from fedagg_edge.learners.zoo import build_model

SHAPE = (3, 8, 8)


def test_features_are_the_lower_part_in_evaluation_mode():
    module = build_model("cnn3", SHAPE, 4)
    learner = TorchLearner(module)
    extractor = Extractor(learner, 4, SHAPE)
    assert extractor.feature_shape == (8, 4, 4)
    x = np.random.default_rng(0).random((700, *SHAPE), np.float32)  # more than one block
    before = learner.state().weights
    got = extractor.features(x)
    module.eval()
    with torch.no_grad():
        want = module[:4](torch.from_numpy(x)).numpy()
        upper = module[4:](torch.from_numpy(got)).numpy()
    module.train()
    np.testing.assert_allclose(got, want, atol=1e-6)
    np.testing.assert_allclose(upper, learner.logits(x), atol=1e-5)
    np.testing.assert_array_equal(learner.state().weights, before)
    assert module.training


@pytest.mark.parametrize(
    ("name", "shape", "cut"),
    [("cnn3", SHAPE, 3), ("mlp", SHAPE, 3), ("cnn1d", (6, 32), 3), ("resnet10", SHAPE, 3), ("dwcnn", SHAPE, 3)],
)
def test_the_default_cut_is_before_pooling_and_the_second_layer(name, shape, cut):
    assert default_cut(build_model(name, shape, 4)) == cut


def test_a_model_of_one_layer_cannot_be_cut():
    learner = TorchLearner(nn.Sequential(nn.Flatten(), nn.Linear(4, 3)))
    with pytest.raises(ConfigError, match="cut: got 2, expected 1 to 1"):
        Extractor(learner, None, (1, 2, 2))


def test_only_sequences_of_torch_are_cut():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(4, 3)

        def forward(self, x):
            return self.linear(x.flatten(1))

    with pytest.raises(ConfigError, match=r"cut: got a Own, expected torch\.nn\.Sequential"):
        Extractor(TorchLearner(Own()), None, (1, 2, 2))
    with pytest.raises(ConfigError, match='cut: got a object, expected a model trained by engine = "torch"'):
        Extractor(object(), None, (1, 2, 2))


def test_an_extractor_starts_from_another_and_shares_nothing_with_it():
    one, other = (TorchLearner(build_model("cnn3", SHAPE, 4)) for _ in range(2))
    a, b = Extractor(one, None, SHAPE), Extractor(other, None, SHAPE)
    x = np.random.default_rng(0).random((4, *SHAPE), np.float32)
    one.module[1].running_mean.fill_(0.25)  # running figures go along
    assert a.structure == b.structure != Extractor(other, 4, SHAPE).structure
    assert (a.features(x) != b.features(x)).any()
    b.start_from(a)
    np.testing.assert_array_equal(a.features(x), b.features(x))
    given = {k: v for k, v in other.state().arrays().items() if k.startswith("1.running_mean")}
    assert given
    assert all((v == 0.25).all() for v in given.values())  # in the learner's own state too
    one.module[0].weight.data.zero_()
    assert (a.features(x) != b.features(x)).any()
