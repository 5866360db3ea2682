import threading

import numpy as np
import pytest
import torch
from toys import CLASSES, SHAPE, IdentityBridge

from fedagg_edge.errors import LearnerError
from fedagg_edge.fleet.predictor import Predictor
from fedagg_edge.fleet.weights import Saved, save
from fedagg_edge.learners.torch import TorchLearner


def learner(favourite=0):
    """A linear model that always answers `favourite`."""
    linear = torch.nn.Linear(4, CLASSES)
    with torch.no_grad():
        linear.weight.zero_()
        linear.bias.copy_(torch.nn.functional.one_hot(torch.tensor(favourite), CLASSES))
    return TorchLearner(torch.nn.Sequential(torch.nn.Flatten(), linear))


def keep(folder, version, favourite):
    save(folder, Saved(version, learner(favourite).state()))


X = np.zeros((2, *SHAPE), np.float32)


def test_it_answers_with_the_newest_whole_weights(tmp_path):
    predictor = Predictor(tmp_path, IdentityBridge(), learner)
    with pytest.raises(LearnerError, match="no weights yet; the node has to finish a round first"):
        predictor.predict(X)
    keep(tmp_path, 0, 1)
    assert (predictor.predict(X).tolist(), predictor.version) == ([1, 1], 0)
    keep(tmp_path, 1, 2)
    assert (predictor.predict(X).tolist(), predictor.version) == ([2, 2], 1)
    assert predictor.logits(X).shape == (2, CLASSES)


def test_damaged_weights_are_passed_over(tmp_path):
    for version in (0, 1):
        keep(tmp_path, version, version)
    (tmp_path / "round-000001.safetensors").write_bytes(b"torn")
    predictor = Predictor(tmp_path, IdentityBridge(), learner)
    assert (predictor.predict(X).tolist(), predictor.version) == ([0, 0], 0)


def test_answers_while_weights_change_are_always_of_one_round(tmp_path):
    keep(tmp_path, 0, 0)
    predictor, seen = Predictor(tmp_path, IdentityBridge(), learner), []

    def ask():
        seen.extend(predictor.logits(X)[0].tolist() for _ in range(50))

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for version in range(1, 6):
        keep(tmp_path, version, version % CLASSES)
    for thread in threads:
        thread.join()
    assert len(seen) == 100
    assert all(sorted(logits) == [0.0, 0.0, 1.0] for logits in seen)
