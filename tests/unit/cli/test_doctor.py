import re
from importlib import metadata

import numpy as np

import fedagg_edge
from fedagg_edge import kernels
from fedagg_edge.cli import doctor


def rows(out):
    return dict(re.split(r"\s{2,}", line, maxsplit=1) for line in out.splitlines())


def test_it_says_what_is_here(fedagg):
    code, out, err = fedagg("doctor")
    assert (code, err) == (0, "")
    got = rows(out)
    assert got["fedagg-edge"] == fedagg_edge.__version__
    assert got["numpy"] == np.__version__
    assert got["kernels"].startswith(kernels.active_isa())
    assert set(got) >= {"python", "cores", "torch", "scikit-learn", "matplotlib", "rich"}


def test_it_says_what_is_missing_and_how_to_get_it(fedagg, monkeypatch):
    known = metadata.version

    def version(name):
        if name in ("torch", "rich"):
            raise metadata.PackageNotFoundError(name)
        return known(name)

    monkeypatch.setattr(doctor.metadata, "version", version)
    code, out, _ = fedagg("doctor")
    assert code == 0
    got = rows(out)
    assert got["torch"] == "not installed; for edges, the cloud and simulate: pip install 'fedagg-edge[torch]'"
    assert got["rich"].startswith("not installed; for progress bars")


def test_another_instruction_set_shows(fedagg):
    with kernels.force_isa("scalar"):
        assert rows(fedagg("doctor")[1])["kernels"].startswith("scalar")
