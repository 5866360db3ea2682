"""Pulling the model from a real gateway over TLS, with real signatures, interruptions and attempts to deceive."""

import json

import pytest
from identity.worlds import make_device, make_states, make_world
from serving import server_config, serving

from fedagg_edge.errors import (
    ArtefactError,
    ConfigError,
    FedaggError,
    IdentityError,
    PermissionDenied,
    RemoteProtocolError,
)
from fedagg_edge.fleet import pull as module
from fedagg_edge.fleet.publish import Publisher
from fedagg_edge.fleet.pull import pull
from fedagg_edge.fleet.shelf import DiskShelf
from fedagg_edge.fleet.visitor import Visitor
from fedagg_edge.records import Tier

CONTENT = bytes(range(256)) * (3 * 4096) + b"end"  # three parts of 1 MiB and some


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    place = tmp_path_factory.mktemp("world")
    made = make_world(place / "made")
    make_device(made.cloud, place / "made" / "near", node="dev.9")
    return make_states(place, made, near=place / "made" / "near")


@pytest.fixture(scope="module")
def cloud(world):
    with serving(server_config(world / "cloud", Tier.CLOUD, "cloud.1"), Tier.CLOUD) as made:
        yield made


@pytest.fixture
def shelf(world):
    """The cloud's shelf, with version 5 of a model; emptied for each test."""
    for path in (world / "cloud" / "artefacts").glob("*"):
        path.unlink()
    publisher = Publisher(world / "cloud")
    publisher.put("model", CONTENT, version=5)
    return publisher


@pytest.fixture
def device(world):
    return world / "device" / "identity"


def files(folder):
    return sorted(p.name for p in folder.iterdir())


def test_a_device_of_an_edge_pulls_from_the_cloud_and_again_only_what_is_new(cloud, shelf, device, tmp_path):
    out = tmp_path / "m.safetensors"
    done = pull(cloud.url, device, out)
    assert out.read_bytes() == CONTENT
    assert (done.fetched, done.pin.version, done.signer) == (len(CONTENT), 5, "cloud.1")
    assert json.loads((tmp_path / "m.safetensors.pin.json").read_text())["version"] == 5
    assert files(tmp_path) == ["m.safetensors", "m.safetensors.pin.json"]
    assert pull(cloud.url, device, out).fetched == 0
    shelf.put("model", CONTENT, version=5)  # as after a renewal: the same version under a new signature
    assert pull(cloud.url, device, out).fetched == 0
    shelf.put("model", b"newer", version=6)
    assert pull(cloud.url, device, out).pin.version == 6
    assert out.read_bytes() == b"newer"
    out.write_bytes(b"damaged")
    assert pull(cloud.url, device, out).fetched == 5
    assert out.read_bytes() == b"newer"


class Broken(Visitor):
    """Gives up after so many parts."""

    left = 0

    def get(self, path):
        if path.count("/") == 4:
            if self.left == 0:
                raise RemoteProtocolError("the network is gone")
            self.left -= 1
        return super().get(path)


def broken(parts):
    return type("Gone", (Broken,), {"left": parts})


def test_an_interrupted_pull_goes_on_where_it_was(cloud, shelf, device, tmp_path):
    out = tmp_path / "m"
    for parts in (0, 2, 0):
        with pytest.raises(RemoteProtocolError, match="the network is gone"):
            pull(cloud.url, device, out, visitor=broken(parts))
        assert not out.exists()
    with (tmp_path / "m.part").open("r+b") as part:  # it was killed in the middle of a write
        part.truncate(32 + (2 << 20) - 7)
    done = pull(cloud.url, device, out)
    assert done.fetched == len(CONTENT) - (1 << 20)
    assert out.read_bytes() == CONTENT


def test_parts_of_another_model_are_not_mixed_in(cloud, shelf, device, tmp_path):
    with pytest.raises(RemoteProtocolError):
        pull(cloud.url, device, tmp_path / "m", visitor=broken(2))
    newer = bytes(reversed(CONTENT))
    shelf.put("model", newer, version=6)
    assert pull(cloud.url, device, tmp_path / "m").fetched == len(newer)
    assert (tmp_path / "m").read_bytes() == newer


def test_a_part_that_was_damaged_on_disk_is_noticed_and_fetched_again(cloud, shelf, device, tmp_path):
    with pytest.raises(RemoteProtocolError):
        pull(cloud.url, device, tmp_path / "m", visitor=broken(2))
    with (tmp_path / "m.part").open("r+b") as part:
        part.seek(100)
        part.write(b"\xff\xff\xff")
    with pytest.raises(ArtefactError, match="not what was signed"):
        pull(cloud.url, device, tmp_path / "m")
    assert not (tmp_path / "m").exists()
    assert pull(cloud.url, device, tmp_path / "m").fetched == len(CONTENT)


def test_an_older_version_is_refused_and_the_file_stays(cloud, shelf, device, tmp_path):
    out = tmp_path / "m"
    pull(cloud.url, device, out)
    shelf.put("model", b"older", version=4)
    with pytest.raises(ArtefactError, match="got version 4, version 5 was seen here"):
        pull(cloud.url, device, out)
    shelf.put("model", b"other", version=5)
    with pytest.raises(ArtefactError, match="version 5 came with two contents"):
        pull(cloud.url, device, out)
    assert out.read_bytes() == CONTENT
    for damaged in (b"{", b'{"authority": "\xff"}'):
        (tmp_path / "m.pin.json").write_bytes(damaged)
        with pytest.raises(ArtefactError, match="damaged"):
            pull(cloud.url, device, out)


def test_what_the_cloud_did_not_sign_is_refused(cloud, shelf, world, device, tmp_path):
    found = shelf.shelf.find("model")
    DiskShelf(world / "cloud" / "artefacts").put("model", b"forged", found.signature, found.media)
    with pytest.raises(IdentityError, match="its signature is over something else"):
        pull(cloud.url, device, tmp_path / "m")
    DiskShelf(world / "cloud" / "artefacts").put("model", b"forged", b"", found.media)
    with pytest.raises(IdentityError, match="its signature is damaged"):
        pull(cloud.url, device, tmp_path / "m")
    assert files(tmp_path) == []


def test_one_federation_is_not_taken_for_another(cloud, shelf, device, tmp_path):
    out = tmp_path / "m"
    pull(cloud.url, device, out)
    pin = json.loads((tmp_path / "m.pin.json").read_text())
    (tmp_path / "m.pin.json").write_text(json.dumps(pin | {"authority": "0" * 64}))
    with pytest.raises(ArtefactError, match="take another --out"):
        pull(cloud.url, device, out)


def test_who_may_pull(cloud, shelf, world, tmp_path):
    """Any node of the federation, whatever its role and parent; nobody else, and none that is revoked."""
    for who in ("device", "near", "edge", "cloud"):
        assert pull(cloud.url, world / who / "identity", tmp_path / who).pin.version == 5
    with Visitor(cloud.url, None) as stranger, pytest.raises(PermissionDenied, match="no_certificate"):
        stranger.get("/v1/artefacts")
    other = make_world(tmp_path / "other", federation="other")
    with pytest.raises(FedaggError):
        pull(cloud.url, other.device, tmp_path / "m")
    from fedagg_edge.identity import revocation

    revocation.update(world / "cloud" / "identity", lambda k: revocation.revoke(k, 1e10, node="dev.9"))
    with pytest.raises(PermissionDenied, match="revoked"):
        pull(cloud.url, world / "near" / "identity", tmp_path / "near")


def test_nothing_there_and_nothing_too_large(cloud, shelf, device, tmp_path):
    with pytest.raises(ArtefactError, match=r"has no 'modell' \(it has model\)"):
        pull(cloud.url, device, tmp_path / "m", name="modell")
    with pytest.raises(ArtefactError, match="expected 1 to 100"):
        pull(cloud.url, device, tmp_path / "m", most=100)


def test_two_pulls_into_one_file(cloud, shelf, device, tmp_path):
    with module._owned(tmp_path / "m.part"), pytest.raises(ConfigError, match="another pull is at work"):
        pull(cloud.url, device, tmp_path / "m")


def test_a_folder_in_the_files_place_is_told_before_anything_is_fetched(device, tmp_path):
    with pytest.raises(
        ConfigError, match=r"got a folder, expected the name of a file; take --out .*model\.safetensors"
    ):
        pull("https://127.0.0.1:1", device, tmp_path)
    assert files(tmp_path) == []
