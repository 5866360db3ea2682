import sys
from pathlib import Path

from identity.worlds import make_world

sys.path.insert(0, str(Path(__file__).parents[2] / "fleet"))
from serving import server_config, serving

from fedagg_edge.fleet.publish import Publisher
from fedagg_edge.records import Tier


def test_a_model_is_pulled_and_told(tmp_path, fedagg):
    made = make_world(tmp_path / "made")
    (tmp_path / "cloud").mkdir()
    made.cloud.rename(tmp_path / "cloud" / "identity")
    Publisher(tmp_path / "cloud").put("model", b"weights", version=3)
    out = tmp_path / "out" / "model.safetensors"
    with serving(server_config(tmp_path / "cloud", Tier.CLOUD, "cloud.1"), Tier.CLOUD) as cloud:
        words = ("pull", cloud.url, "--identity", made.device, "--out", out)
        code, text, err = fedagg(*words)
        assert (code, err, out.read_bytes()) == (0, "", b"weights")
        assert "model version 3, 7 bytes\nsigned by cloud.1 on " in text
        assert "it was here already" in fedagg(*words)[1]
        code, _, err = fedagg(*words, "--name", "autoencoder")
        assert (code, "has no 'autoencoder' (it has model)" in err) == (1, True)


def test_an_identity_is_needed(fedagg):
    code, _, err = fedagg("pull", "https://x")
    assert (code, "--identity" in err) == (2, True)
