"""A device's runtime as a child process, for the JVM's tests: TFLite or ExecuTorch behind a pipe.

    python tests/jvm/runtime.py     # frames on stdin and stdout; not for use by hand

A frame is a uint32 length and as many bytes; all numbers are little-endian. The first holds the model, whose magic
says which runtime is meant. Each further one is a call: the signature's (method's) name, a uint16 count, then per
input its name, a byte for the type (0 float32, 1 int64, 2 uint8), a byte for the number of dimensions, the dimensions
as uint32, the data; 255 dimensions mean those that the runtime has, and one size follows, in bytes, which must fit. A
name is a uint16 length and UTF-8; ExecuTorch's values are named by their places. An answer is a byte, then either (0)
outputs, laid out likewise, or (1) what was wrong, as UTF-8.
"""

from __future__ import annotations

import math
import os
import struct
import sys
from collections.abc import Callable
from typing import BinaryIO

import numpy as np

Arrays = dict[str, np.ndarray]
Run = Callable[[str, Arrays], Arrays]

LARGEST = 1 << 28  # bytes of a frame
TYPES = (np.dtype("<f4"), np.dtype("<i8"), np.dtype("u1"))
AS_IT_IS = 255


class Reader:
    """A frame's bytes, one field after another; ValueError if they end early or are too many."""

    def __init__(self, content: bytes) -> None:
        self._content, self._at = content, 0

    def take(self, count: int) -> bytes:
        """The next bytes."""
        if count > len(self._content) - self._at:
            raise ValueError(f"a frame of {len(self._content)} bytes ends before {count} more at {self._at}")
        self._at += count
        return self._content[self._at - count : self._at]

    def number(self, form: str) -> int:
        """The next number, of `struct`'s form."""
        (found,) = struct.unpack("<" + form, self.take(struct.calcsize("<" + form)))
        return int(found)

    def name(self) -> str:
        """The next text."""
        return self.take(self.number("H")).decode()

    def end(self) -> None:
        """Nothing may follow."""
        if self._at != len(self._content):
            raise ValueError(f"a frame has {len(self._content) - self._at} bytes too many")


def read_frame(source: BinaryIO) -> bytes | None:
    """The next frame, None at the end of the stream; ValueError for one that is too long or cut off."""
    head = source.read(4)
    if not head:
        return None
    length = int.from_bytes(head, "little")
    content = source.read(length) if length <= LARGEST else b""
    if len(head) < 4 or len(content) != length:
        raise ValueError(f"got {len(content)} bytes of a frame of {length}, at most {LARGEST}")
    return content


def write_frame(sink: BinaryIO, content: bytes) -> None:
    """One frame, at once."""
    sink.write(struct.pack("<I", len(content)) + content)
    sink.flush()


def read_call(frame: bytes, shape_of: Callable[[str, str], tuple[int, ...]]) -> tuple[str, Arrays]:
    """A call's name and inputs; `shape_of` (signature, input) is asked where the shape is left to the runtime."""
    reader, inputs = Reader(frame), {}
    signature = reader.name()
    for _ in range(reader.number("H")):
        name, dtype, dimensions = reader.name(), TYPES[reader.number("B")], reader.number("B")
        free = dimensions == AS_IT_IS
        size = reader.number("I") if free else 0
        shape = shape_of(signature, name) if free else tuple(reader.number("I") for _ in range(dimensions))
        count = math.prod(shape)
        if free and size != count * dtype.itemsize:
            raise ValueError(f"{name}: got a buffer of {size} bytes, the runtime has {shape} numbers")
        inputs[name] = np.frombuffer(reader.take(count * dtype.itemsize), dtype).reshape(shape)
    reader.end()
    return signature, inputs


def answer(outputs: Arrays) -> bytes:
    """A call's outputs."""
    parts = [struct.pack("<BH", 0, len(outputs))]
    for name, array in outputs.items():
        head = struct.pack("<BB", TYPES.index(array.dtype), array.ndim) + struct.pack(f"<{array.ndim}I", *array.shape)
        parts += [struct.pack("<H", len(name)) + name.encode() + head, np.ascontiguousarray(array).tobytes()]
    return b"".join(parts)


def open_tflite(content: bytes) -> tuple[Run, Callable[[str, str], tuple[int, ...]]]:
    """The signatures of a .tflite."""
    from fedagg_edge.learners.tflite_runtime import open_interpreter

    interpreter, _ = open_interpreter(content)
    runners = {name: interpreter.get_signature_runner(name) for name in interpreter.get_signature_list()}

    def run(signature: str, inputs: Arrays) -> Arrays:
        return dict(runners[signature](**inputs))

    def shape_of(signature: str, name: str) -> tuple[int, ...]:
        return tuple(int(n) for n in runners[signature].get_input_details()[name]["shape"])

    return run, shape_of


def open_executorch(content: bytes) -> tuple[Run, Callable[[str, str], tuple[int, ...]]]:
    """The methods of a .pte."""
    import torch

    from fedagg_edge.learners.executorch_runtime import Program

    program = Program(content)

    def run(method: str, inputs: Arrays) -> Arrays:
        given = [torch.from_numpy(inputs[str(i)].copy()) for i in range(len(inputs))]
        return {str(i): out.numpy() for i, out in enumerate(program.run(method, given))}

    def shape_of(method: str, name: str) -> tuple[int, ...]:
        raise ValueError(f"{method}, {name}: expected a shape")

    return run, shape_of


def main() -> None:
    source, sink = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a runtime prints must not get among the frames
    model = read_frame(source)
    if model is None:
        return
    run, shape_of = (open_executorch if model[4:8] == b"ET12" else open_tflite)(model)
    while (frame := read_frame(source)) is not None:
        try:
            said = answer(run(*read_call(frame, shape_of)))
        except Exception as error:
            said = b"\1" + f"{type(error).__name__}: {error}".encode()
        write_frame(sink, said)


if __name__ == "__main__":
    main()
