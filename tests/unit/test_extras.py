import tomllib
from pathlib import Path

import pytest

from fedagg_edge.errors import ConfigError
from fedagg_edge.extras import PACKAGES, missing, named

EXTRAS = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"][
    "optional-dependencies"
]


@pytest.mark.parametrize("package", PACKAGES, ids=lambda p: p.distribution)
def test_the_extra_that_is_named_brings_the_package(package):
    brought = {requirement.partition(">")[0] for requirement in EXTRAS[package.extra]}
    assert package.distribution in brought
    error = missing(ModuleNotFoundError(name=f"{package.module}.inner"))
    assert str(error).startswith(f"{package.distribution} is not installed; run: {package.remedy}")


def test_every_package_of_an_extra_is_known():
    wanted = {requirement.partition(">")[0] for name, all_ in EXTRAS.items() if name != "dev" for requirement in all_}
    assert wanted - {"numpy"} == {package.distribution for package in PACKAGES}


def test_a_package_that_is_there_and_lacks_a_name_is_not_missing():
    assert missing(ImportError("cannot import name 'x' from 'torch'", name="torch")) is None


@named()
def load(name):
    raise ModuleNotFoundError(name=name)


def test_a_missing_package_is_an_error_of_the_configuration():
    with pytest.raises(
        ConfigError, match=r"^torch is not installed; run: pip install 'fedagg-edge\[torch\]'; a device"
    ):
        load("torch")
    with pytest.raises(ConfigError, match=r"^httptools is not installed; run: pip install 'fedagg-edge\[edge\]'$"):
        load("httptools.parser")


@pytest.mark.parametrize("name", ["einops", "fedagg_edge.nonsense", "torchvision", None])
def test_any_other_module_is_not(name):
    with pytest.raises(ModuleNotFoundError):
        load(name)
