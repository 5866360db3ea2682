import pytest

from fedagg_edge.errors import ConfigError
from fedagg_edge.fleet.config import load_fleet_config, parse_fleet_config
from fedagg_edge.records import Tier

DEVICE = {
    "federation": "digits",
    "node": {"id": "device-000", "state": "state", "model": "mlp"},
    "parent": {"url": "https://edge:9443"},
    "data": {"source": "folder", "options": {"path": "private"}},
}
CLOUD = {
    "federation": "digits",
    "node": {"id": "cloud", "state": "state", "model": "resnet10"},
    "classes": 10,
    "autoencoder": {"path": "autoencoder.safetensors"},
}


def test_a_device_and_a_cloud(tmp_path):
    device = parse_fleet_config(DEVICE, Tier.DEVICE, base_dir=tmp_path)
    assert device.state == tmp_path / "state"
    assert device.model().builder == "mlp"
    assert parse_fleet_config(CLOUD, Tier.CLOUD).rounds.mode == "sync"


def test_a_training_file_lies_in_the_configurations_folder(tmp_path):
    raw = DEVICE | {"models": {"mlp": {"builder": "model.tflite"}}, "modules": "elsewhere"}
    assert parse_fleet_config(raw, Tier.DEVICE, base_dir=tmp_path).model().builder == str(tmp_path / "model.tflite")


@pytest.mark.parametrize(
    ("tier", "raw", "message"),
    [
        (Tier.DEVICE, DEVICE | {"listen": {}}, "listen: a device has no such table; it belongs to edge and cloud"),
        (Tier.EDGE, DEVICE, "data: an edge has no such table; it belongs to device"),
        (
            Tier.CLOUD,
            {k: v for k, v in CLOUD.items() if k != "classes"},
            "classes: this key is missing; a cloud needs it",
        ),
        # whoever writes this believes that samples are let go
        (Tier.CLOUD, CLOUD | {"retention": {"days": 30}}, "retention: a cloud has no such table; it belongs to device"),
        (Tier.CLOUD, CLOUD | {"outbox": {"days": 30}}, "outbox: a cloud has no such table; it belongs to device and e"),
        (
            Tier.EDGE,
            {k: v for k, v in DEVICE.items() if k != "data"} | {"poll": 1.0},
            "poll: an edge has no such key; it belongs to device",
        ),
        (Tier.CLOUD, CLOUD | {"poll": 1.0}, "poll: a cloud has no such key; it belongs to device"),
        # whoever writes this believes that no label comes to the cloud
        (
            Tier.CLOUD,
            CLOUD | {"labels": "first-edge"},
            "labels: a cloud has no such key; it belongs to device and edge",
        ),
        (Tier.DEVICE, DEVICE | {"classes": 3}, "classes: a device has no such key; it belongs to cloud"),
        (Tier.CLOUD, CLOUD | {"autoencoder": {}}, "autoencoder.path: this key is missing"),
        (Tier.DEVICE, DEVICE | {"parent": {"url": "http://edge"}}, "parent.url: got 'http://edge'"),
        (
            Tier.DEVICE,
            DEVICE | {"rounds": {"quorumm": 1.0}},
            r"rounds.quorumm: unknown key 'quorumm' \(did you mean 'quorum'",
        ),
        (
            Tier.DEVICE,
            DEVICE | {"parent": {"url": "https://edge", "ulr": 1}},
            r"parent.ulr: unknown key 'ulr' \(did you mean 'url'",
        ),
        (Tier.DEVICE, DEVICE | {"parent": {"zzz": 1}}, "parent.zzz: unknown key 'zzz'; known keys: url, "),
        (Tier.DEVICE, DEVICE | {"node": {**DEVICE["node"], "id": "Device 1"}}, "node.id: node id: got 'Device 1'"),
        (Tier.DEVICE, DEVICE | {"schema": 2}, "schema: got 2, this version of fedagg reads 1; upgrade fedagg"),
        (Tier.DEVICE, DEVICE | {"limits": {}}, "limits: a device has no such table; it belongs to edge and cloud"),
        (Tier.CLOUD, CLOUD | {"limits": {"entry_bytes": 1 << 39}}, "expected at most .* change the table limits"),
        (Tier.CLOUD, CLOUD | {"identity": {"certificate_days": 91.0}}, "identity.certificate_days: got 91.0"),
        (Tier.CLOUD, CLOUD | {"publish": {"every": -1}}, "publish.every: got -1"),
        (
            Tier.DEVICE,
            DEVICE | {"training": {"learning_rate_schedule": "step"}},
            "training.decay_rounds: got 0, expected 1 or more with learning_rate_schedule 'step'",
        ),
        (
            Tier.DEVICE,
            DEVICE | {"training": {"rectification": 3}},
            "training.rectification: got 3, expected 0: a fleet node's checkpoint does not hold",
        ),
        (
            Tier.DEVICE,
            DEVICE | {"training": {"teacher_ensemble": "mean"}},
            "training.teacher_ensemble: got 'mean', expected 'none': a fleet's node does not keep",
        ),
        (
            Tier.DEVICE,
            DEVICE | {"models": {"small": {"builder": "cnn3", "batch_norm": "split"}}},
            "models.small.batch_norm: got 'split', expected 'shared': a model that a fleet publishes",
        ),
        (
            Tier.DEVICE,
            DEVICE | {"training": {"distillation": "decoupled", "engine": "tflite"}},
            "training.distillation: got 'decoupled' with engine 'tflite'",
        ),
        (Tier.DEVICE, DEVICE | {"preset": "paper"}, "preset: a fleet's node has no such key, because"),
        (Tier.DEVICE, DEVICE | {"bridge_views": "shift"}, "bridge_views: a fleet's node sees bridge samples plainly"),
        (Tier.DEVICE, DEVICE | {"base_dir": "/"}, "unknown key 'base_dir'"),
    ],
)
def test_what_is_wrong_is_named(tier, raw, message):
    with pytest.raises(ConfigError, match=message):
        parse_fleet_config(raw, tier)


def test_a_file(tmp_path):
    path = tmp_path / "device.toml"
    path.write_text(
        """
        federation = "digits"
        [node]
        id = "device-000"
        state = "state"
        model = "small"
        [models.small]
        builder = "mlp"
        [parent]
        url = "https://127.0.0.1:9443"
        [data]
        source = "folder"
        options = { path = "private" }
        """
    )
    config = load_fleet_config(path, Tier.DEVICE)
    assert (config.model().builder, config.path("private")) == ("mlp", tmp_path / "private")
    path.write_text("x = ")
    with pytest.raises(ConfigError, match=r"device\.toml: not valid TOML"):
        load_fleet_config(path, Tier.DEVICE)
