import re
import stat

import pytest

from fedagg_edge.cli import pki
from fedagg_edge.errors import ConfigError
from fedagg_edge.identity import revocation, tokens


def test_from_a_federation_to_a_token(fedagg, tmp_path):
    root, edge, cloud = tmp_path / "root", tmp_path / "edge", tmp_path / "cloud"
    code, out, err = fedagg("pki", "init", root, "--federation", "fed")
    assert (code, err) == (0, "")
    digest = re.search(r"authority +([0-9a-f]{64})", out)[1]
    code, out, err = fedagg("pki", "server", root, edge, "--node", "e", "--role", "edge", "--host", "localhost")
    assert (code, err) == (0, "")
    assert "serial" in out
    code, out, err = fedagg("pki", "token", edge, "--node", "d", "--expires", "30m")
    assert (code, err) == (0, "")
    assert tokens.parse(out).authority.hex() == digest
    words = ("--role", "edge", "--host", "localhost")
    code, out, err = fedagg("pki", "token", edge, "--node", "f", *words)
    assert (code, out) == (1, "")
    assert "edge-issuer" in err
    code, _, _ = fedagg("pki", "server", root, cloud, "--node", "c", "--role", "cloud", "--host", "localhost")
    code, out, err = fedagg("pki", "token", cloud, "--node", "f", *words)
    assert (code, tokens.parse(out).authority.hex()) == (0, digest)
    assert "this edge will have no signing key" in err
    code, out, _ = fedagg("pki", "revoke", edge, "--node", "d")
    assert code == 0
    assert set(revocation.load(edge).nodes) == {"d"}
    for path in (root / "authority_key.pem", edge / "key.pem", edge / "issuer_key.pem"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_what_is_said_of_mistakes(fedagg, tmp_path):
    for words in (
        ("init", tmp_path / "a", "--federation", "Not A Name"),
        ("token", tmp_path / "b", "--node", "d"),
        ("token", tmp_path / "b", "--node", "d", "--expires", "soon"),
        ("revoke", tmp_path / "b"),
    ):
        code, out, err = fedagg("pki", *words)
        assert (code, out) == (1, "")
        assert err.startswith("fedagg: ")


def test_spans():
    assert [pki.seconds(t) for t in ("30m", "24h", "7d")] == [1800, 86_400, 604_800]
    for wrong in ("", "1", "0h", "-1h", "1w", "1.5h"):
        with pytest.raises(ConfigError):
            pki.seconds(wrong)


def test_a_missing_extra_says_how_to_get_it():
    assert "fedagg-edge[enroll]" in str(pki.needing_extra(ModuleNotFoundError("x", name="cryptography.x509")))
    other = ModuleNotFoundError("x", name="elsewhere")
    assert pki.needing_extra(other) is other
