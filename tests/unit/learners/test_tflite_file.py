import json
import struct
import zlib

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
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


def described_by(description: bytes) -> bytes:
    """The small file with these bytes as its description, and a checksum that fits it."""
    model = schema.ModelT.InitFromPackedBuf(small_file(), 0)
    entry = next(e for e in model.metadata if e.name == tflite_file.DESCRIPTION.encode())
    model.buffers[entry.buffer].data = np.frombuffer(description, np.uint8)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return tflite_file.seal(bytes(builder.Output()))


def description_of(content: bytes) -> dict[str, object]:
    about, _ = tflite_file.described(content, tflite_file.FORMAT, source="")
    return dict(about)


def resealed(change: dict[str, object]) -> bytes:
    """The small file with something else in its description."""
    return described_by(tflite_file.packed(description_of(small_file()) | change))


def test_a_plain_description_of_an_older_file_is_read() -> None:
    about = description_of(small_file())
    assert description_of(described_by(json.dumps(about).encode())) == about


@pytest.mark.parametrize(
    "description",
    [b"", b"{", b"nothing", zlib.compress(bytes(100)), zlib.compress(bytes(1 << 23)), zlib.compress(b"{}" * 99)[:9]],
)
def test_bytes_that_are_no_description(description: bytes) -> None:
    with pytest.raises(ArtefactError, match="without fedagg's description"):
        tflite_file.loads(described_by(description))


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
