"""The cloud's shelf with real signatures."""

import json

import numpy as np
import pytest
from identity.worlds import NOW, make_world
from safetensors import safe_open
from serving import server_config

from fedagg_edge.bridge import open_bridge
from fedagg_edge.errors import PermissionDenied
from fedagg_edge.fleet.keys import PUBLISHED
from fedagg_edge.fleet.parts import open_ledger
from fedagg_edge.fleet.publish import Publisher, model_content
from fedagg_edge.fleet.signatures import verify
from fedagg_edge.identity import enrolment, issue, requests
from fedagg_edge.identity.renewal import DAY, GRACE
from fedagg_edge.learners.base import Entry, LearnerState
from fedagg_edge.records import Tier

STATE = LearnerState((Entry("w", (2, 3), True), Entry("b", (2,), False)), np.arange(8, dtype=np.float32))


@pytest.fixture
def place(tmp_path):
    world = make_world(tmp_path / "made")
    (tmp_path / "cloud").mkdir()
    world.cloud.rename(tmp_path / "cloud" / "identity")
    return tmp_path / "cloud"


def check(place, artefact, now):
    return verify(place / "identity", artefact, now)


def test_a_model_says_how_to_build_it(tmp_path, artefact_path):
    config = server_config(tmp_path / "state", Tier.CLOUD, "cloud.1")
    bridge = open_bridge(artefact_path)
    content = model_content(config, STATE, bridge, 3, 7)
    assert content == model_content(config, STATE, bridge, 3, 7)
    (tmp_path / "m").write_bytes(content)
    with safe_open(tmp_path / "m", framework="numpy") as f:
        about = json.loads(f.metadata()["fedagg"])
        np.testing.assert_array_equal(f.get_tensor("w"), STATE.arrays()["w"])
        assert set(f.keys()) == {"w", "b"}
    assert (about["format"], about["version"], about["classes"]) == ("fedagg-model/1", 7, 3)
    assert about["autoencoder"] == bridge.digest
    assert about["model"]["builder"] == "mlp"


def test_what_is_published_is_signed_and_said(place):
    publisher = Publisher(place)
    ledger = open_ledger(server_config(place, Tier.CLOUD, "cloud.1"), Tier.CLOUD)
    made = publisher.put_model(ledger, b"weights", 4)
    told = check(place, made, NOW)
    assert (told.version, told.signer) == (4, "cloud.1")
    fact = ledger.get(PUBLISHED)
    assert (fact["version"], fact["digest"], fact["size"]) == (4, made.digest.hex(), 7)
    assert publisher.shelf.find("model") == made
    ledger.close()


def test_after_a_renewal_everything_is_signed_again_and_outlives_the_old_certificate(place):
    """The rule of docs/identity.md: a signature is good for 30 days after its certificate; so sign again."""
    identity = place / "identity"
    publisher = Publisher(place)
    before = [publisher.put("autoencoder", b"codec", version=0), publisher.put("model", b"weights", version=9)]
    late = NOW + 7 * DAY + GRACE + 60
    for artefact in before:
        with pytest.raises(PermissionDenied, match="signed too long ago"):
            check(place, artefact, late)
    asked = enrolment.prepare(identity, NOW)
    renewed = issue.renew(
        requests.Renew(
            folder=str(identity), certificate=asked.certificate, public_key=asked.public_key, proof=asked.proof,
            time=asked.time, now=NOW + 10 * DAY,
        )
    )  # fmt: skip
    enrolment.install(identity, renewed.certificate)
    later = Publisher(place, clock=lambda: NOW + 10 * DAY)
    assert (later.sign_again(), later.sign_again()) == (2, 0)
    for old in before:
        new = publisher.shelf.find(old.name)
        assert (new.digest, new.signature != old.signature) == (old.digest, True)
        assert check(place, new, late).version == check(place, old, NOW).version
    assert publisher.shelf.content(before[1]) == b"weights"


def test_an_edge_cannot_publish(tmp_path):
    world = make_world(tmp_path / "made")
    (tmp_path / "edge").mkdir()
    world.edge.rename(tmp_path / "edge" / "identity")
    publisher = Publisher(tmp_path / "edge")
    with pytest.raises(PermissionDenied, match="the cloud signs artefacts"):
        publisher.put("model", b"weights", version=1)
    assert publisher.shelf.listing() == ()


def test_an_artefact_in_place_of_another_has_a_higher_version(place):
    publisher = Publisher(place, clock=lambda: NOW)
    publisher.put("autoencoder", b"as older software counted", version=7)
    for version in (int(NOW), int(NOW) + 1):  # the second within the same second, or by a clock that was set back
        made = publisher.put("autoencoder", b"content %d" % version, version=publisher.next_version("autoencoder"))
        assert check(place, made, NOW).version == version


def test_a_cloud_that_lost_its_state_does_not_count_anew(place):
    """No node would take its autoencoder any more: each has seen a higher version."""
    assert Publisher(place, clock=lambda: NOW + 5).next_version("autoencoder") == int(NOW) + 5
