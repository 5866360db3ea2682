"""Writes seeds of the fuzz targets to corpus/, in the layouts that fuzz_aggregate.cpp and fuzz_codec.cpp read.

What lives here: the files aggregate_* and codec_*. What does not: conversions, packing and top_k (hostile bytes to
decode), which were made by hand of special numbers. Run it after a change of a layout: a seed in an old one is read as
other numbers and reaches nothing in particular.
"""

import random
import struct
from pathlib import Path

METHODS = ("mean_logits", "mean_probabilities", "entropy_weighted", "trimmed_mean", "median")
NOTHING, NAN, NEGATIVE, INFINITE, SAMPLE_WITHOUT_TEACHER = range(5)
F32, F16, I8 = range(3)


def words(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}H", *values)


def floats(numbers: random.Random, count: int, least: float = -9, most: float = 9) -> bytes:
    return struct.pack(f"<{count}f", *(numbers.uniform(least, most) for _ in range(count)))


def teacher(numbers: random.Random, storage: int, rows: int, classes: int) -> bytes:
    count = rows * classes
    if storage == F32:
        return words(storage) + floats(numbers, count)
    if storage == F16:
        return words(storage) + struct.pack(f"<{count}e", *(numbers.uniform(-2, 2) for _ in range(count)))
    return words(storage) + numbers.randbytes(count) + floats(numbers, rows, 0, 0.1)


def aggregate(
    method: str,
    storage: list[int],
    *,
    rows: int = 5,
    classes: int = 9,
    mask: bool = False,
    weights: bool = False,
    sample_weights: bool = False,
    trim: float = 0.25,
    refused: int = NOTHING,
) -> bytes:
    numbers = random.Random(f"{method} {storage} {rows} {classes}")
    count = len(storage)
    seed = words(METHODS.index(method), count - 1, rows, classes - 1)
    seed += words(mask, weights, sample_weights, round(1000 * trim), refused)
    if weights:
        seed += numbers.randbytes(count)
    if sample_weights:
        seed += numbers.randbytes(count * rows)
    if mask:
        seed += numbers.randbytes(count * rows)
    return seed + b"".join(teacher(numbers, one, rows, classes) for one in storage)


def top_k(numbers: random.Random, rows: int, classes: int, k: int) -> bytes:
    return bytes([3]) + words(rows, classes - 1, k - 1) + floats(numbers, rows * classes)


def affine(numbers: random.Random, rows: int, channels: int, *, refused: bool) -> bytes:
    seed = bytes([4]) + words(rows, channels, refused)
    seed += floats(numbers, channels, -1, 0) + floats(numbers, channels, 0.001, 0.1)
    seed += bytes(numbers.randrange(10 if refused else 9) for _ in range(channels))
    return seed + floats(numbers, rows * channels, -1, 3)


def main() -> None:
    numbers = random.Random(0)
    seeds = {
        "aggregate_mean_logits": aggregate("mean_logits", [F32, F32, F32]),
        "aggregate_mean_logits_i8": aggregate("mean_logits", [I8, I8], classes=130, sample_weights=True),
        "aggregate_mean_logits_mixed": aggregate("mean_logits", [F32, F16, I8], weights=True, mask=True),
        "aggregate_mean_probabilities": aggregate("mean_probabilities", [F32, F16], rows=17, weights=True),
        "aggregate_mean_probabilities_rows": aggregate("mean_probabilities", [I8, F32], classes=135, mask=True),
        "aggregate_entropy_weighted": aggregate("entropy_weighted", [F16, F32, I8], weights=True, sample_weights=True),
        "aggregate_entropy_weighted_rows": aggregate("entropy_weighted", [F32, F32], rows=2, classes=133),
        "aggregate_trimmed_mean": aggregate("trimmed_mean", [F32] * 6, trim=0.4),
        "aggregate_trimmed_mean_masked": aggregate("trimmed_mean", [F16, I8, F32, F32], mask=True, sample_weights=True),
        "aggregate_median": aggregate("median", [I8, F32, F16, F32, F16], mask=True, weights=True),
        "aggregate_refused_weight": aggregate("median", [F32, F32], weights=True, refused=NAN),
        "aggregate_refused_sample_weight": aggregate("mean_logits", [F16], sample_weights=True, refused=NEGATIVE),
        "aggregate_without_teacher": aggregate("mean_logits", [F32], mask=True, refused=SAMPLE_WITHOUT_TEACHER),
        "codec_affine": affine(numbers, 3, 37, refused=False),
        "codec_affine_refused": affine(numbers, 2, 9, refused=True),
        "codec_top_k": top_k(numbers, 4, 40, 7),
        "codec_top_k_all": top_k(numbers, 2, 9, 9),
    }
    corpus = Path(__file__).parent / "corpus"
    corpus.mkdir(exist_ok=True)
    for old in (*corpus.glob("aggregate_*.bin"), *corpus.glob("codec_*.bin")):
        old.unlink()
    for name, seed in seeds.items():
        (corpus / f"{name}.bin").write_bytes(seed)


if __name__ == "__main__":
    main()
