import json
import struct

import numpy as np
import pytest
from compiled import CLASSES, IMAGE, small_file

from fedagg_edge.errors import ArtefactError
from fedagg_edge.learners import tflite_file


def test_a_file_is_read_without_a_flatbuffer_library() -> None:
    file = tflite_file.loads(small_file())
    assert [e.name for e in file.table] == ["1.weight", "1.bias", "3.weight", "3.bias"]
    assert all(e.trained for e in file.table)
    assert (file.sample_shape, file.classes, file.rows_apart, file.masks) == (IMAGE, CLASSES, True, ())
    assert len(file.weights) == sum(e.size for e in file.table)
    assert file.weights.flags.writeable
    assert len(file.digest) == 64


@pytest.mark.parametrize("length", [0, 3, 8, 100, 5000, -1, -40])
def test_a_truncated_file(length: int) -> None:
    with pytest.raises(ArtefactError, match=r"not a \.tflite file|truncated or foreign"):
        tflite_file.loads(small_file()[:length])


def test_every_flipped_byte_is_seen() -> None:
    content = small_file()
    for place in np.random.default_rng(0).integers(8, len(content), 50):
        damaged = bytearray(content)
        damaged[place] ^= 0x10
        with pytest.raises(ArtefactError, match=r"damaged|truncated or foreign"):
            tflite_file.loads(bytes(damaged))


def resealed(change: dict[str, object]) -> bytes:
    """The small file with another description of the same length, and a checksum that fits it."""
    body = small_file()[:-40]
    start = body.index(b'{"classes"')
    end = body.index(b"}", body.index(b'"torch"')) + 1
    about = json.loads(body[start:end]) | change
    text = json.dumps(about, sort_keys=True, separators=(",", ":")).encode()
    assert len(text) <= end - start
    return tflite_file.seal(body[:start] + text.ljust(end - start) + body[end:])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 7}, "got 'fedagg-tflite' of schema 7, this version reads"),
        ({"format": "other"}, "got 'other' of schema 2"),
        ({"table": [["1.weight", [7, 12], "trained"]]}, "got 939 weights, its table has 84|got 943 weights"),
        ({"masks": 3}, "its description cannot be used"),
    ],
)
def test_a_description_that_does_not_fit(change: dict[str, object], message: str) -> None:
    with pytest.raises(ArtefactError, match=message):
        tflite_file.loads(resealed(change))


def test_a_foreign_tflite_file() -> None:
    foreign = tflite_file.seal(struct.pack("<I4s", 8, b"TFL3") + bytes(200))
    with pytest.raises(ArtefactError, match="without fedagg's description"):
        tflite_file.loads(foreign)
    with pytest.raises(ArtefactError, match="without fedagg's checksum"):
        tflite_file.loads(small_file()[:-40])


def test_any_bytes_with_a_right_checksum_are_an_error_and_no_crash() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        noise = rng.integers(0, 256, 300, np.uint8).tobytes()
        with pytest.raises(ArtefactError):
            tflite_file.loads(tflite_file.seal(noise[:4] + b"TFL3" + noise[8:]))


def test_a_file_that_is_not_there(tmp_path) -> None:
    with pytest.raises(ArtefactError, match="cannot read the training file"):
        tflite_file.load(tmp_path / "no.tflite")
