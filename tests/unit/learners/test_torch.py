import copy
import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, log_softmax
from toys import hyperparameters

from fedagg_edge.config import ModelConfig
from fedagg_edge.errors import ConfigError, LearnerError
from fedagg_edge.learners.base import Batch, LearnerSpec, LearnerState
from fedagg_edge.learners.torch import TorchLearner, make_learner, module_factory

N, C, SHAPE = 6, 3, (1, 4, 4)


def network(*, dropout=False, norm=True):
    torch.manual_seed(5)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.BatchNorm2d(4) if norm else nn.Identity(),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(0.5) if dropout else nn.Identity(),
        nn.Linear(16, C),
    )


def batch(seed=0, *, leaf=True, bridge=True, n=N):
    rng = np.random.default_rng(seed)
    x, private = rng.random((2, n, *SHAPE), np.float32)
    y, teacher = rng.integers(0, C, n), rng.normal(0, 3, (n, C)).astype(np.float32)
    halves = (x, y, teacher) if bridge else (x[:0], y[:0], None)
    return Batch(*halves, private, y) if leaf else Batch(*halves)


def bits(learner):
    """The whole state as bytes: equal means the same to the last bit."""
    state = learner.state()
    return state.weights.tobytes(), {k: v.tobytes() for k, v in state.slots.items()}, state.steps


def equation_4(module, given, hp):
    """L_leaf, or L_nl without private samples, in plain torch."""
    z, y = module(torch.from_numpy(given.bridge_x_N).double()), torch.from_numpy(given.bridge_y_N)
    own, scale = (hp.temperature, hp.temperature**2) if hp.temperature_on == "both" else (1.0, 1.0)
    s = log_softmax(z / own, 1)
    t = log_softmax(torch.from_numpy(given.teacher_NC).double() / hp.temperature, 1)
    kl = (t.exp() * (t - s)).sum(1) if hp.kl == "teacher||student" else (s.exp() * (s - t)).sum(1)
    nl = cross_entropy(z, y) + hp.beta * scale * kl.mean()
    if given.private_x_N is None:
        return nl
    return cross_entropy(module(torch.from_numpy(given.private_x_N).double()), y) + hp.gamma * nl


FORMS = list(
    itertools.product(["teacher||student", "student||teacher"], ["both", "teacher"], [0.0, 3.0], [False, True])
)


@pytest.mark.parametrize(("kl", "temperature_on", "beta", "leaf"), FORMS)
def test_a_step_moves_every_parameter_by_autograds_gradient(kl, temperature_on, beta, leaf):
    hp = hyperparameters(kl=kl, temperature_on=temperature_on, beta=beta, gamma=0.6, learning_rate=1.0, momentum=0.0)
    module, given = network(), batch(leaf=leaf)
    twin = copy.deepcopy(module).double()
    learner = TorchLearner(module)
    before = learner.state().arrays()
    report = learner.step(given, hp)
    loss = equation_4(twin, given, hp)
    loss.backward()
    assert report.loss == pytest.approx(loss.item(), rel=1e-5)
    after = learner.state().arrays()
    for name, parameter in twin.named_parameters():
        np.testing.assert_allclose(before[name] - after[name], parameter.grad.numpy(), atol=2e-5, err_msg=name)


def test_private_samples_alone_are_plain_training():
    hp = hyperparameters(learning_rate=1.0, momentum=0.0)
    module, given = network(), batch(bridge=False)
    twin = copy.deepcopy(module)
    learner = TorchLearner(module)
    report = learner.step(given, hp)
    loss = cross_entropy(twin(torch.from_numpy(given.private_x_N)), torch.from_numpy(given.private_y_N))
    loss.backward()
    assert (report.loss, report.bridge_ce) == (pytest.approx(loss.item(), rel=1e-5), 0.0)
    weight = twin[5].weight.detach() - twin[5].weight.grad
    np.testing.assert_allclose(learner.state().arrays()["5.weight"], weight.numpy(), atol=1e-5)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_restored_learner_goes_on_to_the_same_bits(optimizer):
    hp = hyperparameters(learning_rate=0.01)
    learner = TorchLearner(network(), optimizer)
    for i in range(3):
        learner.step(batch(i), hp)
    saved = learner.state()
    assert saved.steps == 3
    assert all(slot.any() for slot in saved.slots.values())
    other = TorchLearner(network(), optimizer)
    other.step(batch(9), hp)  # so that it has slots of its own to lose
    other.load_state(saved)
    for i in range(3, 6):
        learner.step(batch(i), hp)
        other.step(batch(i), hp)
    assert bits(learner) == bits(other)


def test_a_saved_state_does_not_move_with_the_learner_nor_the_learner_with_it():
    learner = TorchLearner(network())
    saved = learner.state()
    before = saved.weights.copy()
    learner.step(batch(), hyperparameters())
    np.testing.assert_array_equal(saved.weights, before)
    learner.load_state(saved)
    saved.weights[:] = 0
    assert learner.state().weights.any()


def test_a_state_without_slots_clears_old_ones_and_read_only_arrays_will_do():
    learner, hp = TorchLearner(network()), hyperparameters()
    fresh = learner.state()
    learner.step(batch(), hp)
    weights = fresh.weights.copy()
    weights.flags.writeable = False
    learner.load_state(LearnerState(fresh.table, weights))
    assert not learner.state().slots["momentum"].any()
    assert learner.state().steps == 0
    x = np.zeros((2, *SHAPE), np.float32)
    x.flags.writeable = False
    learner.logits(x)
    learner.step(Batch(x, np.zeros(2, np.int64), None), hp)


def test_foreign_states_are_refused_and_change_nothing():
    learner = TorchLearner(network())
    before = bits(learner)
    with pytest.raises(LearnerError, match=r"got '0.weight' \(3, 16\), this model has '0.weight' \(4, 1, 3, 3\)"):
        learner.load_state(TorchLearner(nn.Sequential(nn.Linear(16, 3))).state())
    with pytest.raises(LearnerError, match=r"got '5.weight' \(3, 16\), this model has '1.weight' \(4,\)"):
        learner.load_state(TorchLearner(network(norm=False)).state())
    shorter = nn.Sequential(*list(network())[:2])
    with pytest.raises(LearnerError, match="state: got"):
        learner.load_state(TorchLearner(shorter).state())
    adam = TorchLearner(network(), "adam").state()
    with pytest.raises(LearnerError, match=r"got optimizer slots \['exp_avg', 'exp_avg_sq'\].*\['momentum'\]; use the"):
        learner.load_state(LearnerState(adam.table, adam.weights + 1, adam.slots, 7))
    assert bits(learner) == before


def test_logits_are_those_of_evaluation_mode_and_change_nothing():
    learner = TorchLearner(network(dropout=True))
    x = np.random.default_rng(0).random((1100, *SHAPE), np.float32)  # more than one block
    learner.step(batch(), hyperparameters())
    before, random = bits(learner), torch.get_rng_state()
    first = learner.logits(x)
    assert (first.shape, first.dtype, first.flags.c_contiguous) == ((1100, C), np.float32, True)
    np.testing.assert_array_equal(first, learner.logits(x))
    # a row's logits do not depend on its batch, as they would with batch norm in training mode
    np.testing.assert_allclose(first[7:8], learner.logits(x[7:8]), atol=1e-6)
    assert bits(learner) == before
    assert torch.equal(torch.get_rng_state(), random)
    assert learner.logits(x[:0]).shape == (0, C)


def test_training_goes_on_in_training_mode_after_logits():
    learner = TorchLearner(network())
    learner.logits(batch().bridge_x_N)
    learner.step(batch(leaf=False), hyperparameters())
    assert learner.state().arrays()["1.num_batches_tracked"] == 1


def test_dropout_draws_from_the_seed_of_the_pass():
    hp, ends = hyperparameters(), []
    for seed in (1, 1, 2):
        learner = TorchLearner(network(dropout=True))
        learner.seed(seed)
        learner.step(batch(), hp)
        ends.append(bits(learner))
    assert ends[0] == ends[1] != ends[2]


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("where", ["bridge_x_N", "private_x_N", "teacher_NC"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_loss_that_is_not_finite_raises_and_moves_nothing(where, value, optimizer):
    learner, hp = TorchLearner(network(), optimizer), hyperparameters()
    learner.step(batch(), hp)
    before, bad = bits(learner), batch(1)
    getattr(bad, where)[2] = value
    with pytest.raises(LearnerError, match=r"the loss became (nan|inf) after 1 steps"):
        learner.step(bad, hp)
    assert bits(learner) == before
    learner.step(batch(2), hp)
    assert np.isfinite(learner.state().weights).all()


class Transposed(nn.Module):
    """Returns logits whose memory is not row by row."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(2)
        self.inner = nn.Linear(16, C)

    def forward(self, x):
        return (self.inner.weight @ x.flatten(1).T + self.inner.bias[:, None]).T


def test_logits_of_any_memory_order():
    plain = nn.Sequential(nn.Flatten(), nn.Linear(16, C))
    plain[1].load_state_dict(Transposed().inner.state_dict())
    one, other, hp = TorchLearner(plain), TorchLearner(Transposed()), hyperparameters()
    for i in range(3):
        one.step(batch(i), hp)
        other.step(batch(i), hp)
    np.testing.assert_allclose(one.state().weights, other.state().weights, atol=1e-5)
    got = other.logits(batch().bridge_x_N)
    assert got.flags.c_contiguous
    np.testing.assert_allclose(got, one.logits(batch().bridge_x_N), atol=1e-5)


def build(seed, **options):
    model = ModelConfig(builder="mlp", options=options)
    hp = hyperparameters(optimizer="adam")
    return make_learner(LearnerSpec(model, SHAPE, C, hp, seed))


def test_weights_come_from_the_seed_and_the_process_generator_is_left_alone():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = build(3, hidden=[8])
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    np.testing.assert_array_equal(first.state().weights, build(3, hidden=[8]).state().weights)
    assert not np.array_equal(first.state().weights, build(4, hidden=[8]).state().weights)
    assert set(first.state().slots) == {"exp_avg", "exp_avg_sq"}


def test_a_function_from_python_with_lazy_layers_is_as_reproducible():
    def lazy(sample_shape, classes, width):
        return nn.Sequential(nn.Flatten(), nn.LazyLinear(width), nn.Linear(width, classes))

    def make(seed):
        model = ModelConfig(builder="mine", options={"width": 5})
        return module_factory(lazy)(LearnerSpec(model, SHAPE, C, hyperparameters(), seed)).state()

    first = make(3)
    assert first.weights.size == 16 * 5 + 5 + 5 * C + C
    torch.manual_seed(9)
    np.testing.assert_array_equal(first.weights, make(3).weights)


def test_a_function_from_python_that_does_not_fit_is_refused():
    factory = module_factory(lambda sample_shape, classes: nn.Sequential(nn.Flatten(), nn.Linear(16, classes + 1)))
    with pytest.raises(LearnerError, match=r"forward returned torch.float32 \(2, 4\), expected torch.float32 \(2, 3\)"):
        factory(LearnerSpec(ModelConfig(builder="x"), SHAPE, C, hyperparameters(), 0))


class Rooted(torch.nn.Module):
    """Its logits are finite at zero weights, its gradient is not: the slope of a square root at 0."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x):
        return self.weight.sqrt() * torch.ones(len(x), 3) * torch.arange(3.0)


def test_a_gradient_that_is_not_finite_changes_nothing():
    learner = TorchLearner(Rooted())
    before = learner.state()
    x_N = np.zeros((2, 1, 2, 2), np.float32)
    batch = Batch(x_N, np.array([0, 2]), None)
    with pytest.raises(LearnerError, match="the gradient became infinite or NaN after 0 steps"):
        learner.step(batch, hyperparameters())
    np.testing.assert_array_equal(learner.state().weights, before.weights)
    np.testing.assert_array_equal(learner.state().slots["momentum"], before.slots["momentum"])


def test_one_sample_and_a_batch_norm_over_one_value():
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 3))
    batch = Batch(np.zeros((1, 1, 2, 2), np.float32), np.array([0]), None)
    with pytest.raises(LearnerError, match="one sample alone cannot train this model"):
        TorchLearner(module).step(batch, hyperparameters())


@pytest.mark.parametrize("leaf", [True, False])
def test_bfloat16_computes_roughly_and_keeps_its_weights_in_float32(leaf):
    given, hp = batch(n=8, leaf=leaf), hyperparameters()
    exact, rough = TorchLearner(network()), TorchLearner(network(), precision="bfloat16")
    before = exact.state().weights
    logits = rough.logits(given.bridge_x_N)
    assert logits.dtype == np.float32
    difference = np.abs(logits - exact.logits(given.bridge_x_N)).max()
    assert 0 < difference < 0.02  # 8 bits of mantissa, sums of 16 and logits of about 1
    reports = [learner.step(given, hp) for learner in (exact, rough)]
    assert reports[0].loss == pytest.approx(reports[1].loss, rel=0.02)
    moved, moved_too = (learner.state().weights - before for learner in (exact, rough))
    assert moved_too.dtype == np.float32
    assert 0 < np.linalg.norm(moved - moved_too) < 0.05 * np.linalg.norm(moved)


def test_the_factory_takes_the_precision_asked_for_and_other_engines_refuse_it():
    spec = LearnerSpec(ModelConfig(builder="mlp"), SHAPE, C, hyperparameters(precision="bfloat16"), 0)
    x_N = batch().bridge_x_N
    plain = make_learner(replace(spec, hyperparameters=hyperparameters()))
    assert not np.array_equal(make_learner(spec).logits(x_N), plain.logits(x_N))
    with pytest.raises(ConfigError, match="precision: got 'bfloat16' with engine 'executorch', expected 'float32'"):
        spec.refuse_what_only_torch_has("executorch", loss_inside=False)
    anew = replace(spec, hyperparameters=hyperparameters(batch_norm_rows=64))
    with pytest.raises(ConfigError, match="batch_norm_rows: got 64 with engine 'tflite', expected 0"):
        anew.refuse_what_only_torch_has("tflite", loss_inside=True)


def test_a_learner_says_whether_it_draws_from_the_process_stream():
    assert [TorchLearner(network(dropout=d)).draws_shared for d in (True, False)] == [True, False]
