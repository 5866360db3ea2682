"""Which instruction set runs: chosen once, pinned by the environment or for a block of code."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fedagg_edge import _core, kernels


def in_new_process(force: str) -> subprocess.CompletedProcess[str]:
    code = "from fedagg_edge import kernels; print(kernels.active_isa(), '|', kernels.active_isa_reason())"
    environment = {**os.environ, "FEDAGG_FORCE_ISA": force}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)


def test_the_widest_is_the_default_and_scalar_the_last() -> None:
    assert kernels.available_isas()[-1] == "scalar"
    done = in_new_process("")
    assert done.stdout.startswith(f"{kernels.available_isas()[0]} | ")
    assert "widest" in done.stdout


@pytest.mark.parametrize("name", kernels.available_isas())
def test_the_environment_pins_one(name: str) -> None:
    assert in_new_process(name).stdout.startswith(f"{name} | {name}: pinned by FEDAGG_FORCE_ISA")


@pytest.mark.parametrize("name", ["sse9", "AVX2"])
def test_an_unknown_name_is_an_error(name: str) -> None:
    done = in_new_process(name)
    assert done.returncode != 0
    assert f"ImportError: FEDAGG_FORCE_ISA: got '{name}', expected one that this build and cpu have: " in done.stderr


def test_force_isa_restores_what_was_before() -> None:
    before = kernels.active_isa()
    with kernels.force_isa("scalar"):
        assert kernels.active_isa() == "scalar"
    assert kernels.active_isa() == before
    with pytest.raises(ValueError, match="isa: got 'x'"), kernels.force_isa("x"):
        pass


def test_the_core_links_neither_openmp_nor_torch() -> None:
    """Names of libraries that a shared object wants stand in it as they are."""
    content = Path(_core.__file__).read_bytes()
    assert b"libstdc++" in content or b"libc." in content  # names are found
    for library in (b"libgomp", b"libomp", b"libiomp", b"libtorch", b"libc10"):
        assert library not in content
