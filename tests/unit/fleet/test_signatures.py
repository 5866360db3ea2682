"""What the cloud signed holds; anything else about the same bytes does not."""

import msgspec
import pytest
from identity.worlds import NOW, make_world

from fedagg_edge.errors import IdentityError, PermissionDenied
from fedagg_edge.fleet.publish import Publisher
from fedagg_edge.fleet.signatures import verify
from fedagg_edge.identity.renewal import DAY, GRACE


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    made = make_world(tmp_path_factory.mktemp("world"))
    state = made.root.parent / "state"
    state.mkdir()
    made.cloud.rename(state / "identity")
    return made, Publisher(state).put("model", b"weights", version=3)


def test_a_device_believes_the_cloud_and_nothing_that_was_changed(world):
    made, artefact = world
    told = verify(made.device, artefact, NOW)
    assert (told.version, told.signer) == (3, "cloud.1")
    for changed in ({"name": "autoencoder"}, {"digest": bytes(32)}, {"size": 8}, {"media": "text/plain"}):
        with pytest.raises((PermissionDenied, IdentityError)):
            verify(made.device, msgspec.structs.replace(artefact, **changed), NOW)


def test_an_old_signature_is_refused_but_by_who_asks_for_any_age(world):
    made, artefact = world
    late = NOW + 7 * DAY + GRACE + 60
    with pytest.raises(PermissionDenied):
        verify(made.device, artefact, late)
    assert verify(made.device, artefact, None).version == 3
