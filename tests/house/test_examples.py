"""The examples' own data modules, as `fedagg simulate` loads them; the runs themselves are benchmarks/tasks.py's."""

import os
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import msgspec
import numpy as np
import pytest

from fedagg_edge import load_config, simulate
from fedagg_edge.config import parse_config
from fedagg_edge.datasets import Dataset, load_dataset
from fedagg_edge.plugins import load_object
from fedagg_edge.records import Tier
from fedagg_edge.tree import plant

EXAMPLES = Path(__file__).parents[2] / "examples"


def rows_of(x: np.ndarray) -> set[bytes]:
    """Each row's bytes."""
    return {row.tobytes() for row in x}


@pytest.fixture(scope="module")
def text() -> Dataset:
    return load_dataset("docstrings:load", base_dir=EXAMPLES)


def test_the_text_has_four_topics_and_nothing_on_two_sides(text: Dataset) -> None:
    assert text.classes == 4
    assert text.sample_shape == (512,)
    assert (np.bincount(text.train_y) > 50).all()
    assert (np.bincount(text.test_y) > 20).all()
    # two texts of the same words in another order are one row: few
    assert len(rows_of(text.train_x) & rows_of(text.test_x)) < 5
    np.testing.assert_allclose(np.linalg.norm(text.train_x, axis=1), 1, rtol=1e-5)
    topics_of = {g: set(text.train_y[text.group_N == g]) for g in np.unique(text.group_N)}
    assert all(len(topics) == 1 for topics in topics_of.values())


def test_examples_at_the_prompt_are_no_text() -> None:
    words_of = load_object("docstrings:words_of", EXAMPLES)
    assert words_of("Return it.\n\n    >>> f(1)\n    Twice, x.") == ("return", "it", "twice")


def test_the_medical_table_is_dealt_out_once() -> None:
    d = load_dataset("medical:load", base_dir=EXAMPLES)
    assert (len(d.public_x), len(d.test_x), len(d.train_x)) == (114, 171, 284)  # type: ignore[arg-type]
    parts = [rows_of(x) for x in (d.public_x, d.test_x, d.train_x)]  # type: ignore[arg-type]
    assert len(set.union(*parts)) == sum(map(len, parts)) == 569


def test_a_vector_task_runs_from_the_autoencoder_to_the_cloud(tmp_path: Path) -> None:
    raw = msgspec.to_builtins(load_config(EXAMPLES / "medical.toml"))
    base_dir = raw.pop("base_dir")
    raw |= {"rounds": 1, "autoencoder": {"epochs": 5}, "evaluation": {"references": False}}
    results = simulate(parse_config(raw, base_dir=base_dir), out=tmp_path / "run")
    assert 0.3 < results.final(Tier.CLOUD) <= 1
    assert (tmp_path / "run" / "bridge.png").is_file()


@pytest.mark.parametrize(("name", "devices"), [("sensor", 15), ("speech", 5)])
def test_a_device_is_a_person(name: str, devices: int) -> None:
    tree = plant(load_config(EXAMPLES / f"{name}.toml").tree, 0)
    assert len(tree.tier(Tier.DEVICE)) == devices


@pytest.mark.data
@pytest.mark.skipif("FEDAGG_DATA" not in os.environ, reason="FEDAGG_DATA is not set")
def test_nobody_is_on_two_sides_of_the_sensor_data() -> None:
    spec = spec_from_file_location("prepare_data", EXAMPLES.parent / "tools" / "prepare_data.py")
    assert spec is not None
    assert spec.loader is not None
    tool = module_from_spec(spec)
    spec.loader.exec_module(tool)
    group_N = tool.har(Path(os.environ["FEDAGG_DATA"]), "both", 128, 0.8)["group"]
    options = load_config(EXAMPLES / "sensor.toml").data.options
    held = {*options["test_groups"], *options["public_groups"]}
    assert len(held) == len(options["test_groups"]) + len(options["public_groups"])
    assert held < {*group_N.tolist()}
    assert len({*group_N.tolist()} - held) == 15  # one device a person
