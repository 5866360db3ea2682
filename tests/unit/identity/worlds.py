"""A small federation on disk, and handshakes on loopback."""

import dataclasses
import os
import socket
import ssl
import threading
import time
from pathlib import Path

from fedagg_edge.identity import authority, enrolment, folder, keys, operator, requests, tls, tokens
from fedagg_edge.identity.issue import certificate_chain, enrol
from fedagg_edge.identity.renewal import LIFETIME
from fedagg_edge.records import Tier

NOW = time.time()


@dataclasses.dataclass
class World:
    root: Path
    cloud: Path
    edge: Path
    device: Path

    def signer(self, place):
        return authority.load_signer(place)


def make_device(parent: Path, place: Path, *, node="dev.1", role=Tier.DEVICE, now=NOW, lifetime=LIFETIME, hosts=()):
    """Enrol as `fedagg enroll` does, with the server's side called in this process."""
    token = operator.grant(parent, node=node, role=role, expires=now + 3600, hosts=hosts)
    root = (parent / folder.AUTHORITY).read_bytes()
    asked = enrolment.request_enrolment(place, root, token, node=node, role=role, time=now)
    done = enrol(
        requests.Enrol(
            folder=str(parent), node=node, role=role, token_digest=tokens.digest(token), public_key=asked.public_key,
            proof=asked.proof, time=asked.time, now=now, lifetime=lifetime, hosts=hosts,
        )
    )  # fmt: skip
    enrolment.install_first(place, done.certificate, root, asked)
    return done


def make_world(place: Path, federation="fed", now=NOW) -> World:
    world = World(place / "root", place / "cloud", place / "edge", place / "device")
    operator.found(world.root, federation, now)
    for role in (Tier.CLOUD, Tier.EDGE):
        operator.make_server(
            world.root, place / role.value, node=f"{role.value}.1", role=role, hosts=["localhost", "127.0.0.1"],
            now=now, lifetime=LIFETIME,
        )  # fmt: skip
    make_device(world.edge, world.device, now=now)
    return world


def make_states(place: Path, made: World, **others: Path) -> Path:
    """The world's identities, and others', at place/<name>/identity, as nodes have them below their states."""
    for name, identity in {"cloud": made.cloud, "edge": made.edge, "device": made.device, **others}.items():
        (place / name).mkdir()
        identity.rename(place / name / "identity")
    return place


def put_leaf(place: Path, signer, root: bytes, **words):
    """Write an identity with whatever certificate the signer can be made to sign, past the library's own refusals."""
    folder.make_folder(place)
    key = keys.make_key(place / folder.KEY)
    leaf = authority.certify(signer, public_key=key.public_key(), **words)
    folder.write(place / folder.CERTIFICATE, certificate_chain(signer, authority.to_pem(leaf), Tier.DEVICE, root))
    folder.write(place / folder.AUTHORITY, root)


def handshake(server: ssl.SSLContext, client: ssl.SSLContext, name="localhost"):
    """(what the server knows of the client, what the client knows of the server): Facts, or the exception."""
    results: dict[str, object] = {}
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(10)

        def serve():
            try:
                with listening.accept()[0] as plain:
                    plain.settimeout(10)
                    with server.wrap_socket(plain, server_side=True) as secured:
                        results["server"] = tls.peer_of(secured)
                        secured.sendall(b"x")
            except Exception as error:
                results["server"] = error

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            with (
                socket.create_connection(listening.getsockname(), timeout=10) as plain,
                client.wrap_socket(plain, server_hostname=name) as secured,
            ):
                results["client"] = tls.peer_of(secured)
                secured.recv(1)  # in TLS 1.3 a refused client certificate shows here
        except Exception as error:
            results["client"] = error
        thread.join()
    return results["server"], results["client"]


def mode(path: Path) -> int:
    return os.stat(path).st_mode & 0o777
