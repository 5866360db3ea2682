import dataclasses
import ssl
import urllib.error

import pytest
from cryptography import x509
from identity.worlds import NOW, handshake, make_device, make_world, put_leaf

from fedagg_edge.errors import IdentityError, PermissionDenied
from fedagg_edge.identity import authority, folder, issue, keys, pem, requests, revocation, tls
from fedagg_edge.identity.enrolment import install, prepare
from fedagg_edge.identity.facts import IssuerKind
from fedagg_edge.identity.renewal import DAY
from fedagg_edge.records import Tier


def test_both_ends_know_one_another(world):
    server, client = handshake(tls.server_context(world.edge), tls.client_context(world.device))
    assert (server.node, server.role, server.federation) == ("dev.1", Tier.DEVICE, "fed")
    assert (server.issuer.kind, server.issuer.node) == (IssuerKind.EDGE, "edge.1")
    assert (client.node, client.role) == ("edge.1", Tier.EDGE)
    assert server.serial == pem.validity(pem.certificates((world.device / folder.CERTIFICATE).read_bytes())[0]).serial


def test_a_device_moves_to_a_parent_that_knows_the_root_alone(world):
    assert handshake(tls.server_context(world.cloud), tls.client_context(world.device))[0].node == "dev.1"


def test_an_edge_is_a_client_of_the_cloud(world):
    server, client = handshake(tls.server_context(world.cloud), tls.client_context(world.edge))
    assert (server.role, client.role) == (Tier.EDGE, Tier.CLOUD)


def test_another_federation_is_refused_at_both_ends(world, tmp_path):
    other = make_world(tmp_path / "other")
    server, client = handshake(tls.server_context(world.edge), tls.client_context(other.device))
    assert isinstance(client, ssl.SSLCertVerificationError)
    assert isinstance(server, OSError)
    trusting = tls.client_context(other.device, check_time=True)
    trusting.load_verify_locations(cadata=(world.root / folder.AUTHORITY).read_text())
    server, _ = handshake(tls.server_context(world.edge), trusting)
    assert isinstance(server, ssl.SSLCertVerificationError)


def test_the_servers_name_is_checked(world):
    _, client = handshake(tls.server_context(world.edge), tls.client_context(world.device), name="elsewhere.example")
    assert isinstance(client, ssl.SSLCertVerificationError)
    assert "Hostname mismatch" in str(client)


def test_without_a_certificate_one_may_enrol_but_is_nobody(world):
    client = tls.client_context(world.device, with_certificate=False)
    server, _ = handshake(tls.server_context(world.edge), client)
    assert isinstance(server, PermissionDenied)


def test_a_device_is_no_server(world):
    _, client = handshake(tls.server_context(world.device), tls.client_context(world.edge))
    assert isinstance(client, ssl.SSLCertVerificationError)
    assert "purpose" in client.verify_message


@pytest.mark.parametrize("role", [Tier.EDGE, Tier.CLOUD])
def test_an_edges_issuer_cannot_mint_a_server(world, tmp_path, role, monkeypatch):
    signer = authority.load_signer(world.edge)
    words = {"node": "evil", "role": role, "now": NOW, "hosts": ["localhost"]}
    with pytest.raises(IdentityError, match="may not sign for role"):
        authority.certify(signer, public_key=signer.key.public_key(), **words)
    monkeypatch.setattr(authority, "may_issue", lambda kind, role: True)  # an edge that runs other software
    put_leaf(tmp_path / "evil", signer, (world.root / folder.AUTHORITY).read_bytes(), **words)
    server, client = handshake(tls.server_context(world.cloud), tls.client_context(tmp_path / "evil"))
    assert isinstance(server, ssl.SSLCertVerificationError)  # OpenSSL: name constraints
    assert "permitted subtree" in server.verify_message
    _, client = handshake(tls.server_context(tmp_path / "evil"), tls.client_context(world.device))
    assert isinstance(client, ssl.SSLCertVerificationError)


def test_the_roles_rule_holds_without_name_constraints(world, tmp_path, monkeypatch):
    """The second lock: a chain that OpenSSL lets through is refused by what its issuer's name says."""
    monkeypatch.setattr(authority, "may_issue", lambda kind, role: True)
    monkeypatch.setattr(
        x509.CertificateBuilder, "add_extension", _without_constraints(x509.CertificateBuilder.add_extension)
    )
    root = authority.load_signer(world.root)
    key = keys.make_key(tmp_path / "k.pem")
    issuer = authority.certify_issuer(root, node="edge.1", role=Tier.EDGE, public_key=key.public_key(), now=NOW)
    bad = authority.Signer(issuer, key)
    put_leaf(
        tmp_path / "evil", bad, (world.root / folder.AUTHORITY).read_bytes(),
        node="evil", role=Tier.CLOUD, now=NOW, hosts=["localhost"],
    )  # fmt: skip
    server, _ = handshake(tls.server_context(world.cloud), tls.client_context(tmp_path / "evil"))
    assert isinstance(server, PermissionDenied)
    assert "signed by edge-issuer" in str(server)
    # the third lock: as a server it is refused for the usage that its issuer has
    _, client = handshake(tls.server_context(tmp_path / "evil"), tls.client_context(world.device))
    assert isinstance(client, ssl.SSLCertVerificationError)
    assert "purpose" in client.verify_message


def _without_constraints(original):
    def add(self, extension, critical):
        return self if isinstance(extension, x509.NameConstraints) else original(self, extension, critical)

    return add


def test_an_expired_certificate_is_refused_then_renewed(world, tmp_path):
    place = tmp_path / "old"
    make_device(world.edge, place, node="old", now=NOW - 10 * DAY)
    server, client = handshake(tls.server_context(world.edge), tls.client_context(place))
    assert isinstance(server, ssl.SSLCertVerificationError)
    assert tls.refused_as_expired(client)
    assert not tls.refused_as_expired(ssl.SSLError("other"))
    ready = prepare(place, NOW)
    asked = {name: getattr(ready, name) for name in ("certificate", "public_key", "proof", "time")}
    done = issue.renew(requests.Renew(folder=str(world.cloud), now=NOW, **asked))
    install(place, done.certificate)
    server, _ = handshake(tls.server_context(world.edge), tls.client_context(place))
    assert (server.node, server.issuer.kind) == ("old", IssuerKind.CLOUD)


def test_a_clock_at_1970_skips_dates_and_nothing_else(world, tmp_path):
    expired = make_world(tmp_path / "old", now=NOW - 20 * DAY)  # so that only skipped dates let it pass
    server = tls.server_context(expired.edge)
    _, client = handshake(server, tls.client_context(expired.device, now=NOW, with_certificate=False))
    assert isinstance(client, ssl.SSLCertVerificationError)
    unset = tls.client_context(expired.device, now=0.0, with_certificate=False)
    assert unset.verify_flags & tls.NO_CHECK_TIME
    assert handshake(server, unset)[1].node == "edge.1"
    _, client = handshake(tls.server_context(world.edge), tls.client_context(expired.device, now=0.0))
    assert isinstance(client, ssl.SSLCertVerificationError)
    _, client = handshake(server, tls.client_context(expired.device, now=0.0), name="elsewhere.example")
    assert isinstance(client, ssl.SSLCertVerificationError)


def test_a_clock_that_is_behind_shows(tmp_path):
    ahead = make_world(tmp_path, now=NOW + 5 * DAY)
    _, client = handshake(tls.server_context(ahead.edge), tls.client_context(ahead.device, check_time=True))
    assert tls.clock_is_behind(client)
    assert tls.clock_is_behind(urllib.error.URLError(client))
    assert not tls.clock_is_behind(ssl.SSLCertVerificationError("other"))
    assert not tls.expired_by_this_clock(client)


def test_a_clock_that_is_far_ahead_shows(tmp_path):
    long_ago = make_world(tmp_path, now=NOW - 8 * DAY)
    _, client = handshake(tls.server_context(long_ago.edge), tls.client_context(long_ago.device, check_time=True))
    assert tls.expired_by_this_clock(client)
    assert not tls.clock_is_behind(client)


def test_a_revoked_serial_and_a_revoked_issuer(world):
    server, _ = handshake(tls.server_context(world.edge), tls.client_context(world.device))
    revocation.check(revocation.Revocations(), server)
    for serial in (server.serial, server.issuer.serial):
        with pytest.raises(PermissionDenied, match="revoked"):
            revocation.check(revocation.revoke(revocation.Revocations(), NOW, serial=serial), server)


def test_old_protocols_and_tickets_are_off(world):
    context = tls.server_context(world.edge)
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.num_tickets == 0
    assert context.options & ssl.OP_NO_TICKET
    client = tls.client_context(world.device)
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    assert handshake(context, client)[0].node == "dev.1"


def test_files_that_do_not_fit(world, tmp_path):
    (world.device / folder.KEY).chmod(0o644)
    with pytest.raises(IdentityError, match="chmod 600"):
        tls.client_context(world.device)
    (world.device / folder.KEY).write_bytes((world.edge / folder.KEY).read_bytes())
    (world.device / folder.KEY).chmod(0o600)
    with pytest.raises(IdentityError, match="does not load"):
        tls.client_context(world.device)
    with pytest.raises(IdentityError, match="not there"):
        tls.server_context(tmp_path / "nowhere")


def test_peer_of_is_strict():
    good = {
        "subject": ((("organizationName", "fed"),), (("organizationalUnitName", "device"),), (("commonName", "d"),)),
        "issuer": (
            (("organizationName", "fed"),), (("organizationalUnitName", "edge-issuer"),), (("commonName", "e"),),
            (("serialNumber", "1f"),),
        ),
        "serialNumber": "0AB", "notBefore": "Nov 26 00:00:00 2026 GMT", "notAfter": "Dec  3 00:00:00 2026 GMT",
        "subjectAltName": (("URI", "fedagg://fed/device/d"),),
    }  # fmt: skip
    found = tls.peer_of(good)
    assert (found.serial, found.not_after - found.not_before) == ("ab", 7 * DAY)
    assert dataclasses.replace(found) == found
    wrong = [
        None, {}, {"subject": ()}, good | {"serialNumber": "zz"}, good | {"subjectAltName": ()},
        good | {"subjectAltName": (("URI", "fedagg://fed/cloud/d"),)},
        good | {"subjectAltName": (*good["subjectAltName"], ("URI", "fedagg://fed/device/x"))},
        good | {"subject": (good["subject"][0] + good["subject"][1], good["subject"][2])},
        good | {"subject": (*good["subject"], (("commonName", "x"),))},
        good | {"notAfter": "never"}, good | {"issuer": good["subject"]},
    ]  # fmt: skip
    for each in wrong:
        with pytest.raises(PermissionDenied):
            tls.peer_of(each)


def test_first_contact_pins_the_root(world, tmp_path):
    import socket
    import threading

    root = pem.certificates((world.root / folder.AUTHORITY).read_bytes())[0]
    server = tls.server_context(world.edge)
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve():
            for _ in range(2):
                with listening.accept()[0] as plain, server.wrap_socket(plain, server_side=True):
                    pass

        thread = threading.Thread(target=serve)
        thread.start()
        contact = tls.first_contact(*listening.getsockname(), pem.fingerprint(root))
        assert pem.certificates(contact.authority) == [root]
        with pytest.raises(IdentityError, match="authority that the token names"):
            tls.first_contact(*listening.getsockname(), b"\1" * 32)
        thread.join()
    server_knows, client_knows = handshake(server, contact.context)
    assert isinstance(server_knows, PermissionDenied)  # no certificate yet
    assert client_knows.node == "edge.1"
    other = make_world(tmp_path / "other")
    assert isinstance(handshake(tls.server_context(other.edge), contact.context)[1], ssl.SSLCertVerificationError)


def test_a_connection_that_breaks_off_is_told_from_one_that_is_refused():
    broken = RuntimeError("wrapped")
    broken.__cause__ = ConnectionResetError()
    assert tls.broke_off(broken)
    assert tls.broke_off(ssl.SSLEOFError(8, "EOF"))
    assert not tls.broke_off(ConnectionRefusedError())
    assert not tls.broke_off(TimeoutError())
    assert not tls.broke_off(None)
