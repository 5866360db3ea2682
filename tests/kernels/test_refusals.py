"""What the kernels refuse, and in which words. Nothing here may crash the process or write to `out`."""

from typing import Any

import numpy as np
import pytest

from fedagg_edge import kernels

S = np.zeros((4, 3), np.float32)
Y = np.zeros(4, np.int64)
READ_ONLY = np.zeros((4, 3), np.float32)
READ_ONLY.flags.writeable = False
MISALIGNED = np.zeros(4 * 3 * 4 + 1, np.uint8)[1:].view(np.float32).reshape(4, 3)
UNPAIRED = kernels.QuantisedLogits(np.zeros((4, 3), np.int8), np.ones(3, np.float32))

DISTILL: list[tuple[str, type[Exception], str, tuple[Any, ...], dict[str, Any]]] = [
    ("nothing", TypeError, "got no student_NC", (), {}),
    ("list", TypeError, "student_NC: got list, expected a numpy array or a torch tensor of float32", ([[1.0]],), {}),
    (
        "integers",
        TypeError,
        r"student_NC: got int64, expected float32 or float64; convert with .astype\(numpy.float32\)",
        (S.astype(np.int64), None, Y),
        {},
    ),
    ("big endian", TypeError, "student_NC: got >f4", (S.astype(">f4"), None, Y), {}),
    ("one axis", ValueError, r"student_NC: got shape \[3\], expected", (S[0], None, Y), {}),
    ("strided", ValueError, "student_NC: got an array that is not c-contiguous", (S[:, ::2], None, Y), {}),
    ("transposed", ValueError, "not c-contiguous", (np.zeros((3, 4), np.float32).T, None, Y), {}),
    ("misaligned", ValueError, "not c-contiguous and aligned", (MISALIGNED, None, Y), {}),
    ("no classes", ValueError, "student_NC: got 0 classes", (np.zeros((4, 0), np.float32), None, Y), {}),
    ("label dtype", TypeError, "labels_N: got int32, expected int64", (S, None, Y.astype(np.int32)), {}),
    ("label count", ValueError, r"labels_N: got shape \[3\], expected 4 rows", (S, None, Y[:3]), {}),
    ("label above", ValueError, "labels_N: got 3 at row 2, expected 0 to 2", (S, None, np.array([0, 0, 3, 0])), {}),
    ("label below", ValueError, "labels_N: got -1 at row 0", (S, None, np.array([-1, 0, 0, 0])), {}),
    ("no labels", ValueError, "labels_N: got none", (S,), {}),
    ("no teacher", ValueError, "teacher_NC: got none", (S, None, Y), {"kl_weight": 1.0}),
    ("neither", ValueError, "got neither", (S,), {"ce_weight": 0.0}),
    ("teacher dtype", TypeError, "teacher_NC: got float64, expected float32 or float16", (S, S.astype(float), Y), {}),
    ("teacher rows", ValueError, "teacher_NC: got shape .2, 3., expected 4 rows", (S, S[:2], Y), {}),
    ("teacher classes", ValueError, "expected 3 classes", (S, np.zeros((4, 2), np.float32), Y), {}),
    ("weight", ValueError, "ce_weight: got -1, expected a number from 0 to 1e30", (S, None, Y), {"ce_weight": -1}),
    ("weight nan", ValueError, "kl_weight: got nan", (S, S, Y), {"kl_weight": float("nan")}),
    ("weight type", TypeError, "kl_weight: got str, expected a number", (S, S, Y), {"kl_weight": "1"}),
    (
        "temperature",
        ValueError,
        "temperature: got 0, expected a number between 1e-6",
        (S, S, Y),
        {"temperature": 0},
    ),
    (
        "teacher temperature",
        ValueError,
        "teacher_temperature: got inf",
        (S, S, Y),
        {"teacher_temperature": float("inf")},
    ),
    ("direction", ValueError, "direction: got 'forward', expected 'teacher", (S, S, Y), {"direction": "forward"}),
    ("direction type", TypeError, "direction: got int", (S, S, Y), {"direction": 1}),
    ("mask dtype", TypeError, "mask_N: got uint8, expected bool_", (S, S, Y), {"mask_N": np.ones(4, np.uint8)}),
    ("mask size", ValueError, "mask_N: got shape .5.", (S, S, Y), {"mask_N": np.ones(5, bool)}),
    ("row weights", ValueError, "row_weights_N: got -1", (S, S, Y), {"row_weights_N": -np.ones(4, np.float32)}),
    ("threads", ValueError, "threads: got 0", (S, S, Y), {"threads": 0}),
    (
        "threads long",
        ValueError,
        "threads: got 10{21}, expected 1 to 1024",
        (S, S, Y),
        {"threads": 10**21},
    ),
    ("huge weight", ValueError, "kl_weight: got an integer beyond", (S, S, Y), {"kl_weight": 10**400}),
    ("small numbers", ValueError, "temperature: got 1e-07, expected", (S, S, Y), {"temperature": 1e-7}),
    (
        "large weight",
        ValueError,
        "kl_weight: got 1e.31, expected a number from 0",
        (S, S, Y),
        {"kl_weight": 1e31},
    ),
    ("threads type", TypeError, "threads: got float", (S, S, Y), {"threads": 1.5}),
    (
        "out shape",
        ValueError,
        "out: got shape .3, 3., expected 4 rows",
        (S, S, Y),
        {"out": np.zeros((3, 3), np.float32)},
    ),
    (
        "out dtype",
        TypeError,
        "out: got float64, expected float32; it is written",
        (S, S, Y),
        {"out": np.zeros((4, 3))},
    ),
    ("out read-only", ValueError, "out: got a read-only array", (S, S, Y), {"out": READ_ONLY}),
    (
        "out strided",
        ValueError,
        "out: got an array that is not",
        (S, S, Y),
        {"out": np.zeros((4, 6), np.float32)[:, ::2]},
    ),
    ("unknown", TypeError, "got an unexpected argument 'tau'", (S, S, Y), {"tau": 1}),
    ("twice", TypeError, "got 'teacher_NC' twice", (S, S, Y), {"teacher_NC": S}),
    ("too many", TypeError, "got 4 positional arguments, expected at most 3", (S, S, Y, 1.0), {}),
]


@pytest.mark.parametrize(("error", "words", "args", "kwargs"), [c[1:] for c in DISTILL], ids=[c[0] for c in DISTILL])
def test_distill_loss(error: type[Exception], words: str, args: Any, kwargs: Any) -> None:
    with pytest.raises(error, match=words) as caught:
        kernels.distill_loss(*args, **kwargs)
    assert not str(caught.value).endswith(".")


def test_out_overlaps_nothing_but_the_student() -> None:
    block = np.zeros((6, 3), np.float32)
    with pytest.raises(ValueError, match="out: got an array that overlaps student_NC"):
        kernels.distill_loss(block[:4], S, Y, out=block[1:5])
    with pytest.raises(ValueError, match="out: got an array that overlaps teacher_NC"):
        kernels.distill_loss(S, block[:4], Y, out=block[2:])


def test_a_refused_call_writes_nothing() -> None:
    out = np.full((4, 3), 5.0, np.float32)
    with pytest.raises(ValueError, match="labels_N"):
        kernels.distill_loss(S, S, np.array([0, 0, 0, 9]), out=out)
    assert (out == 5).all()


AGGREGATE: list[tuple[str, type[Exception], str, Any, dict[str, Any]]] = [
    ("none", ValueError, "teachers: got none", [], {}),
    ("not a sequence", TypeError, "teachers: got int", 3, {}),
    ("item", TypeError, r"teachers\[0\]: got str", ["x"], {}),
    ("shapes", ValueError, r"teachers\[1\]: got shape .3, 3., expected 4 rows", [S, S[:3]], {}),
    ("method", ValueError, "method: got 'sum'", [S], {"method": "sum"}),
    ("weights", ValueError, "weights_K: got nan at index 0", [S], {"weights_K": np.array([np.nan], np.float32)}),
    ("weight count", ValueError, "weights_K: got shape .2., expected 1 teachers", [S], {"weights_K": np.ones(2, "f")}),
    ("no weight", ValueError, "sum of 0 at sample 0", [S], {"weights_K": np.zeros(1, np.float32)}),
    (
        "all masked",
        ValueError,
        "sum of 0 at sample 2",
        [S, S],
        {"mask_KN": np.array([[1, 1, 0, 1], [1, 0, 0, 1]], bool)},
    ),
    ("sample weights", ValueError, "expected 4 samples", [S], {"sample_weights_KN": np.ones((1, 3), np.float32)}),
    ("out", ValueError, "out: got an array that overlaps teachers", [S], {"out": S}),
    ("quantised", ValueError, r"teachers\[1\].scale_N: got shape .3., expected 4 row scales", [S, UNPAIRED], {}),
]


@pytest.mark.parametrize(
    ("error", "words", "teachers", "kwargs"), [c[1:] for c in AGGREGATE], ids=[c[0] for c in AGGREGATE]
)
def test_aggregate_logits(error: type[Exception], words: str, teachers: Any, kwargs: Any) -> None:
    with pytest.raises(error, match=words):
        kernels.aggregate_logits(teachers, **kwargs)


def test_codecs() -> None:
    with pytest.raises(TypeError, match="x_NC: got float64, expected float32"):
        kernels.quantise_logits(np.zeros((2, 2)))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="half_NC: got float32, expected float16"):
        kernels.from_f16(S)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"low_D: got shape .2., expected 3 channels"):
        kernels.encode_affine(S, np.zeros(2, np.float32), np.ones(2, np.float32))
    with pytest.raises(ValueError, match="low_D: got nan at channel 1"):
        kernels.encode_affine(S, np.array([0, np.nan, 0], np.float32), np.ones(3, np.float32))
    with pytest.raises(ValueError, match="k: got -1, expected 1 to 3"):
        kernels.encode_top_k(S, -1)
    with pytest.raises(TypeError, match="k: got float, expected an integer"):
        kernels.encode_top_k(S, 1.5)  # type: ignore[arg-type]
    kept = kernels.encode_top_k(S, 2)
    with pytest.raises(ValueError, match="class_count: got -3, expected 1 to 65536"):
        kernels.decode_top_k(kernels.TopKLogits(kept.classes_NK, kept.values_NK, kept.rest_N, -3))
    with pytest.raises(TypeError, match="quantised: got tuple, expected QuantisedLogits"):
        kernels.dequantise_logits((S, S))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="kept: got tuple, expected TopKLogits"):
        kernels.decode_top_k((S, S))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="learning_rate: got str, expected a number"):
        kernels.sgd_step(S[0].copy(), S[0].copy(), learning_rate="x")  # type: ignore[arg-type]
