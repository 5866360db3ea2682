import pytest
from identity.worlds import NOW, handshake, mode

from fedagg_edge.errors import IdentityError, PermissionDenied
from fedagg_edge.identity import folder, operator, revocation, tls, tokens
from fedagg_edge.identity.renewal import LIFETIME
from fedagg_edge.records import Tier


def test_every_key_is_its_owners_alone(world):
    keys = list(world.root.parent.rglob("*key*.pem"))
    assert len(keys) == 6
    assert {mode(p) for p in keys} == {0o600}


def test_nothing_is_replaced(world):
    with pytest.raises(IdentityError, match="never replaced"):
        operator.found(world.root, "fed", NOW)
    words = {"node": "x", "role": Tier.EDGE, "hosts": ["a"], "now": NOW, "lifetime": LIFETIME}
    with pytest.raises(IdentityError, match="already"):
        operator.make_server(world.root, world.edge, **words)
    with pytest.raises(IdentityError, match="operator's folder"):
        operator.make_server(world.cloud, world.root.parent / "x", **words)
    with pytest.raises(IdentityError, match="makes its own key"):
        operator.make_server(world.root, world.root.parent / "y", **words | {"role": Tier.DEVICE})


def test_a_grant_is_found_by_its_token(world):
    token = operator.grant(world.edge, node="n", role=Tier.DEVICE, expires=NOW + 9)
    assert tokens.find_grant(world.edge, token.text, NOW).node == "n"
    with pytest.raises(IdentityError, match="expected no host"):
        operator.grant(world.edge, node="n", role=Tier.DEVICE, expires=NOW, hosts=["a"])


def test_a_revoked_edge_takes_what_it_signed_with_it(world):
    facts, edge = handshake(tls.server_context(world.edge), tls.client_context(world.device))
    known = operator.revoke(world.root, NOW + 1, node="edge.1")
    for each in (facts, edge):
        with pytest.raises(PermissionDenied, match="revoked"):
            revocation.check(known, each)
    assert revocation.load(world.root) == known
    (world.root / folder.ISSUED).write_text("{")
    with pytest.raises(IdentityError, match="backup"):
        operator.revoke(world.root, NOW, node="x")
