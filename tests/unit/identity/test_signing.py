import msgspec
import pytest
from identity.worlds import NOW, make_world

from fedagg_edge.errors import ArtefactError, FedaggError, PermissionDenied
from fedagg_edge.identity import folder, signing
from fedagg_edge.identity.renewal import GRACE, LIFETIME
from fedagg_edge.identity.requests import Check, Sign

WORDS = {"name": "decoder", "media": "application/x", "size": 5, "digest": b"\7" * 32}


def signed(place):
    return signing.sign(Sign(folder=str(place), version=3, now=NOW, **WORDS)).signature


def checked(place, signature, **words):
    return signing.check(Check(**{"folder": str(place), "signature": signature, "now": NOW, **WORDS} | words))


def test_a_device_checks_what_the_cloud_signed(world):
    found = checked(world.device, signed(world.cloud))
    assert (found.version, found.made, found.signer) == (3, int(NOW), "cloud.1")


@pytest.mark.parametrize(
    "change", [{"name": "model"}, {"media": "text/x"}, {"size": 6}, {"digest": b"\6" * 32}, {"name": "a\nb"}]
)
def test_it_is_good_for_one_artefact(world, change):
    with pytest.raises(ArtefactError):
        checked(world.device, signed(world.cloud), **change)


def test_only_the_cloud_of_this_federation_signs(world, tmp_path):
    for place in (world.edge, world.device):
        with pytest.raises(PermissionDenied, match="the cloud signs"):
            signed(place)
    envelope = msgspec.msgpack.decode(signed(world.cloud))
    envelope[3] = (world.edge / folder.CERTIFICATE).read_bytes()
    with pytest.raises(PermissionDenied, match="expected the cloud"):
        checked(world.device, msgspec.msgpack.encode(envelope))
    with pytest.raises(PermissionDenied):
        checked(world.device, signed(make_world(tmp_path / "other").cloud))


def test_dates(world):
    signature = signed(world.cloud)
    checked(world.device, signature, now=None)
    checked(world.device, signature, now=NOW + LIFETIME + GRACE - 5)
    with pytest.raises(PermissionDenied, match="too long ago"):
        checked(world.device, signature, now=NOW + LIFETIME + GRACE + 5)
    late = signing.sign(Sign(folder=str(world.cloud), version=3, now=NOW + LIFETIME + 5, **WORDS)).signature
    with pytest.raises(PermissionDenied, match="was not valid"):
        checked(world.device, late)


def test_a_version_cannot_be_changed(world):
    envelope = msgspec.msgpack.decode(signed(world.cloud))
    envelope[1] += 1
    with pytest.raises(ArtefactError):
        checked(world.device, msgspec.msgpack.encode(envelope))
    envelope[0] = 2
    with pytest.raises(ArtefactError, match="upgrade"):
        checked(world.device, msgspec.msgpack.encode(envelope))


def test_damaged_bytes(world):
    signature = signed(world.cloud)
    for i in range(0, len(signature), 11):
        for bad in (signature[:i], signature[:i] + bytes([signature[i] ^ 0x55]) + signature[i + 1 :]):
            try:
                found = checked(world.device, bad)
            except FedaggError:
                continue
            assert found.signer == "cloud.1"  # a byte between PEM blocks, which says nothing
