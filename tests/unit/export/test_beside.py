import math

import numpy as np
from compiled import CLASSES, IMAGE, small_file

from fedagg_edge.export.beside import difference, noise_batch
from fedagg_edge.learners import tflite_file


def test_the_batch_fits_the_file_and_follows_the_seed() -> None:
    file = tflite_file.loads(small_file())
    one, same, other = (noise_batch(file, seed, 5) for seed in (1, 1, 2))
    assert one.bridge_x_N.shape == (5, *IMAGE)
    assert one.teacher_NC is not None
    assert one.teacher_NC.shape == (5, CLASSES)
    np.testing.assert_array_equal(one.private_x_N, same.private_x_N)
    assert (one.bridge_x_N != other.bridge_x_N).any()


def test_a_difference_is_relative_to_large_values_only_and_nan_is_infinitely_far() -> None:
    a, b = np.array([1.0, 2.0], np.float32), np.array([1.5, 2.0], np.float32)
    assert difference(a, b) == 0.25
    assert difference(a / 10, b / 10) == np.float32(0.15) - np.float32(0.1)
    assert difference(np.array([np.nan], np.float32), np.array([1.0], np.float32)) == math.inf
    assert difference(np.empty(0, np.float32), np.empty(0, np.float32)) == 0.0
