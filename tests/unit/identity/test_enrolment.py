from pathlib import Path

import pytest
from identity.worlds import NOW, make_device, mode

from fedagg_edge.errors import IdentityError, PermissionDenied
from fedagg_edge.identity import authority, enrolment, folder, issue, keys, operator, requests, tls, tokens
from fedagg_edge.records import Tier


def ask(world, place, node="n"):
    token = operator.grant(world.edge, node=node, role=Tier.DEVICE, expires=NOW + 9)
    root = (world.root / folder.AUTHORITY).read_bytes()
    return enrolment.request_enrolment(place, root, token, node=node, role=Tier.DEVICE, time=NOW), root


def test_a_retry_uses_the_same_key_and_the_old_identity_works_meanwhile(world):
    before = (world.device / folder.KEY).read_bytes()
    one, two = ask(world, world.device)[0], ask(world, world.device)[0]
    assert one.public_key == two.public_key
    assert (world.device / folder.KEY).read_bytes() == before
    tls.client_context(world.device)
    make_device(world.edge, world.device, node="n")
    assert keys.public_der(keys.load_key(world.device / folder.KEY)) == one.public_key
    assert mode(world.device / folder.KEY) == 0o600
    tls.client_context(world.device)


def test_anothers_certificate_is_not_installed(world, tmp_path):
    asked, root = ask(world, tmp_path / "n")
    other = make_device(world.edge, tmp_path / "o", node="o")
    with pytest.raises(IdentityError, match="expected device 'n'"):
        enrolment.install_first(tmp_path / "n", other.certificate, root, asked)
    assert sorted(p.name for p in (tmp_path / "n").iterdir()) == ["key.next.pem"]
    before = (world.device / folder.CERTIFICATE).read_bytes()
    with pytest.raises(IdentityError, match="for another key"):
        enrolment.install(world.device, other.certificate)
    with pytest.raises(PermissionDenied):
        enrolment.install(world.device, (world.edge / folder.ISSUER).read_bytes())
    assert (world.device / folder.CERTIFICATE).read_bytes() == before


def test_a_root_that_the_token_does_not_name(world, tmp_path):
    with pytest.raises(IdentityError, match="not the one that the token names"):
        enrolment.request_enrolment(
            tmp_path, (world.root / folder.AUTHORITY).read_bytes(), tokens.make(b"\0" * 32),
            node="n", role=Tier.DEVICE, time=NOW,
        )  # fmt: skip


def test_renewal_from_end_to_end(world):
    ready = enrolment.prepare(world.device, NOW)
    given = {name: getattr(ready, name) for name in ("certificate", "public_key", "proof", "time")}
    done = issue.renew(requests.Renew(folder=str(world.cloud), now=NOW + 10, **given))
    assert enrolment.install(world.device, done.certificate).serial == done.serial
    keys.make_key(world.device / folder.KEY)
    with pytest.raises(IdentityError, match="is not the key of"):
        enrolment.prepare(world.device, NOW)


def test_a_kill_at_any_write_of_an_installation_is_mended(world, tmp_path, monkeypatch):
    """Killed before each of the three renames: what was there works, or `finish` ends it."""
    for place in (world.device, tmp_path / "fresh"):
        for step in range(3):
            asked, root = ask(world, place)
            certificate = make_certificate(world, asked)
            with monkeypatch.context() as patch:
                original, left = Path.replace, [step]

                def killed(self, target, original=original, left=left):
                    if left[0] == 0:
                        raise KeyboardInterrupt
                    left[0] -= 1
                    return original(self, target)

                patch.setattr(Path, "replace", killed)
                with pytest.raises(KeyboardInterrupt):
                    enrolment.install_first(place, certificate, root, asked)
            ended = enrolment.finish(place)
            assert (ended is not None) == (step == 2)
            if ended is not None or place == world.device:
                tls.client_context(place)
            assert enrolment.finish(place) is None


def make_certificate(world, asked):
    signer = authority.load_signer(world.edge)
    public = keys.load_public(asked.public_key)
    leaf = authority.certify(signer, node=asked.node, role=asked.role, public_key=public, now=NOW)
    root = (world.root / folder.AUTHORITY).read_bytes()
    return issue.certificate_chain(signer, authority.to_pem(leaf), asked.role, root)
