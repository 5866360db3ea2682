import pytest
from identity.worlds import NOW, handshake, make_device, mode

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


def test_no_token_is_made_that_its_server_could_not_honour(world, tmp_path):
    """It would be answered with patience for ever: nobody else learns what only that server's log says."""
    make_device(world.cloud, tmp_path / "e", node="e", role=Tier.EDGE, hosts=("localhost",))  # enrolled with a token
    for place, role, why in (
        (tmp_path / "e", Tier.DEVICE, "no signing key.*fedagg pki server"),
        (world.device, Tier.DEVICE, "no signing key"),
        (world.edge, Tier.EDGE, "edge-issuer, which may not sign for it; make the token in the cloud's"),
    ):
        with pytest.raises(IdentityError, match=why):
            operator.grant(place, node="n", role=role, expires=NOW + 9, hosts=() if role is Tier.DEVICE else ("a",))
        assert not (place / folder.TOKENS).exists() or len(list((place / folder.TOKENS).iterdir())) == 1  # the world's
    operator.grant(world.cloud, node="n", role=Tier.EDGE, expires=NOW + 9, hosts=("a",))


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
