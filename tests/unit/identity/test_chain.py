import pytest
from identity.worlds import NOW, make_device, make_world

from fedagg_edge.errors import IdentityError, PermissionDenied
from fedagg_edge.identity import authority, chain, folder, pem
from fedagg_edge.records import Tier


def test_the_three_shapes(world, tmp_path):
    root = (world.root / folder.AUTHORITY).read_bytes()
    make_device(world.cloud, tmp_path / "straight", node="s")
    for place, role in ((world.device, Tier.DEVICE), (world.edge, Tier.EDGE), (tmp_path / "straight", Tier.DEVICE)):
        text = (place / folder.CERTIFICATE).read_bytes()
        found = chain.check(text, root)
        assert found.facts.role is role
        assert found.digest == pem.fingerprint(pem.certificates(text)[0])
        assert found.hosts == (() if role is Tier.DEVICE else ("localhost", "127.0.0.1"))


def test_what_is_refused(world, tmp_path):
    root = (world.root / folder.AUTHORITY).read_bytes()
    other = make_world(tmp_path / "other")
    device = pem.certificates((world.device / folder.CERTIFICATE).read_bytes())
    issuer = pem.certificates((world.edge / folder.ISSUER).read_bytes())
    stranger = pem.certificates((other.device / folder.CERTIFICATE).read_bytes())
    wrong = [
        stranger, device[:1], device[::-1], issuer, [device[0], stranger[1]], [*device, *device],
        [device[0], device[0]], [device[0], *issuer, *issuer],
    ]  # fmt: skip
    for each in wrong:
        with pytest.raises(PermissionDenied):
            chain.check(b"".join(map(pem.to_pem, each)), root)
    with pytest.raises(IdentityError):
        chain.check(b"", root)


def test_a_device_or_an_edge_cannot_sign_further(world, monkeypatch):
    """A leaf's key, or an issuer's, used to make another certificate under it."""
    root = (world.root / folder.AUTHORITY).read_bytes()
    for place, key in ((world.device, folder.KEY), (world.edge, folder.ISSUER_KEY)):
        from cryptography import x509

        from fedagg_edge.identity import keys

        name = folder.CERTIFICATE if key == folder.KEY else folder.ISSUER
        own = x509.load_pem_x509_certificate((place / name).read_bytes())
        signer = authority.Signer(own, keys.load_key(place / key))
        monkeypatch.setattr(authority.Signer, "kind", property(lambda self: chain_root()))
        sub = authority.certify_issuer(signer, node="x", role=Tier.EDGE, public_key=signer.key.public_key(), now=NOW)
        bad = authority.certify(
            authority.Signer(sub, signer.key), node="x", role=Tier.DEVICE, public_key=signer.key.public_key(), now=NOW
        )
        text = b"".join(map(authority.to_pem, (bad, sub, own)))
        with pytest.raises(PermissionDenied):
            chain.check(text, root)
        with pytest.raises(PermissionDenied):
            chain.check(authority.to_pem(sub) + authority.to_pem(own), root)


def chain_root():
    from fedagg_edge.identity.facts import IssuerKind

    return IssuerKind.ROOT


def test_a_damaged_chain_is_refused(world):
    root = (world.root / folder.AUTHORITY).read_bytes()
    leaf, issuer = pem.certificates((world.device / folder.CERTIFICATE).read_bytes())
    for i in range(len(leaf)):
        bad = leaf[:i] + bytes([leaf[i] ^ 1]) + leaf[i + 1 :]
        with pytest.raises(PermissionDenied):
            chain.check(pem.to_pem(bad) + pem.to_pem(issuer), root)
