import msgspec
import pytest
from identity.worlds import NOW, make_device

from fedagg_edge.errors import IdentityError, PermissionDenied
from fedagg_edge.identity import enrolment, folder, issue, keys, operator, requests, revocation, tokens
from fedagg_edge.identity.renewal import DAY, GRACE, LIFETIME
from fedagg_edge.records import Tier


def enrolling(world, place, **words):
    token = operator.grant(world.edge, node="n", role=Tier.DEVICE, expires=NOW + 9)
    root = (world.root / folder.AUTHORITY).read_bytes()
    asked = enrolment.request_enrolment(place, root, token, node="n", role=Tier.DEVICE, time=NOW)
    given = {
        "folder": str(world.edge), "node": "n", "role": Tier.DEVICE, "token_digest": tokens.digest(token),
        "public_key": asked.public_key, "proof": asked.proof, "time": asked.time, "now": NOW,
    }  # fmt: skip
    return requests.Enrol(**given | words)


def renewing(place, at, now=NOW, **words):
    ready = enrolment.prepare(place, now)
    given = {name: getattr(ready, name) for name in ("certificate", "public_key", "proof", "time")}
    return requests.Renew(**{"folder": str(at), "now": now, **given} | words)


def test_enrolment_gives_what_the_grant_says(world, tmp_path):
    done = issue.enrol(enrolling(world, tmp_path / "n"))
    assert (done.node, done.role, done.federation) == ("n", Tier.DEVICE, "fed")
    assert done.not_after == int(NOW + LIFETIME)


@pytest.mark.parametrize(
    "words", [{"node": "m"}, {"token_digest": b"\0" * 32}, {"proof": b""}, {"time": NOW - 5}, {"public_key": b"x"}]
)
def test_a_proof_for_something_else(world, tmp_path, words):
    with pytest.raises(PermissionDenied):
        issue.enrol(enrolling(world, tmp_path / "n", **words))


def test_the_clock_counts_only_if_the_server_says_so(world, tmp_path):
    late = {"now": NOW + 1000}
    issue.enrol(enrolling(world, tmp_path / "n", **late))
    with pytest.raises(PermissionDenied, match="1000 s from"):
        issue.enrol(enrolling(world, tmp_path / "n", window=60.0, **late))


def test_an_edge_cannot_enrol_an_edge(world, tmp_path):
    with pytest.raises((IdentityError, PermissionDenied)):
        make_device(world.edge, tmp_path / "e", node="e", role=Tier.EDGE, hosts=("localhost",))
    done = make_device(world.cloud, tmp_path / "f", node="f", role=Tier.EDGE, hosts=("localhost",))
    assert done.role is Tier.EDGE


def test_renewal_keeps_who_one_is(world):
    for place, at in ((world.device, world.edge), (world.device, world.cloud), (world.edge, world.cloud)):
        done = issue.renew(renewing(place, at, now=NOW + 5 * DAY))
        old = issue.issued((place / folder.CERTIFICATE).read_bytes(), (place / folder.AUTHORITY).read_bytes())
        assert (done.node, done.role) == (old.node, old.role)
        assert done.serial != old.serial
        assert done.not_after == int(NOW + 5 * DAY + LIFETIME)
    with pytest.raises(IdentityError):  # an edge's issuer signs for no edge
        issue.renew(renewing(world.edge, world.edge))


def test_renewal_after_expiry_ends_with_the_grace_period(world):
    end = NOW + LIFETIME
    issue.renew(renewing(world.device, world.edge, now=end + GRACE - 5))
    with pytest.raises(PermissionDenied, match="expired 30 days ago"):
        issue.renew(renewing(world.device, world.edge, now=end + GRACE + 5))


def test_renewal_wants_the_key_and_no_other(world, tmp_path):
    other = make_device(world.edge, tmp_path / "o", node="o")
    good = renewing(world.device, world.edge)
    theirs = renewing(tmp_path / "o", world.edge)
    for bad in (
        {"proof": theirs.proof}, {"certificate": other.certificate}, {"public_key": theirs.public_key},
        {"public_key": theirs.public_key, "proof": theirs.proof}, {"time": NOW + 9},
    ):  # fmt: skip
        with pytest.raises(PermissionDenied):
            issue.renew(msgspec.structs.replace(good, **bad))


def test_what_is_revoked_is_not_renewed(world):
    done = issue.issued((world.device / folder.CERTIFICATE).read_bytes(), (world.root / folder.AUTHORITY).read_bytes())
    revocation.save(world.edge, revocation.revoke(revocation.Revocations(), NOW, serial=done.serial))
    with pytest.raises(PermissionDenied, match="revoked"):
        issue.renew(renewing(world.device, world.edge))


def test_an_enrolment_proof_renews_nothing(world):
    good = renewing(world.device, world.edge)
    from fedagg_edge.identity import chain

    old = chain.check(good.certificate, (world.root / folder.AUTHORITY).read_bytes())
    text = keys.proof_text(
        "enrol", federation="fed", node=old.facts.node, role=old.facts.role, time=NOW, binding=old.digest,
        public_key=good.public_key,
    )  # fmt: skip
    proof = keys.prove(keys.load_key(world.device / folder.KEY), text)
    with pytest.raises(PermissionDenied):
        issue.renew(msgspec.structs.replace(good, proof=proof))
