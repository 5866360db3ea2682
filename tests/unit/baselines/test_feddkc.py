import numpy as np
import pytest
from baselines.rounds import run, weights
from baselines.test_fedgkt import kd_loss

from fedagg_edge.baselines.kkr import refine
from fedagg_edge.errors import ConfigError
from fedagg_edge.records import Tier


def test_the_cloud_distils_refined_knowledge_at_temperature_1(method_of):
    options = {"beta": 1.5, "temperature": 3.0, "peak": 0.5}
    method = method_of("feddkc", options, training={"batch_size": 64})
    server = method.learners["cloud"].state()
    _, heard = run(method)
    device = method.devices[0]
    x_N, y_N = method._private(device)
    refined = refine(method.learners[device].logits(x_N), 0.5)
    np.testing.assert_allclose(np.exp(refined).max(axis=1), 0.5, rtol=1e-4)
    method.learners["cloud"].load_state(server)
    want = kd_loss(method._cloud_logits(device, x_N), refined, y_N, 1.0, 1.5)
    assert heard[4][0] == "cloud"
    assert heard[4][1] == pytest.approx(want, rel=1e-5)
    assert method.hyperparameters(Tier.DEVICE).temperature == 3.0


def test_devices_start_as_in_fedgkt_and_the_cloud_parts_from_it(method_of):
    one, other = method_of("fedgkt"), method_of("feddkc")
    run(one)
    run(other)
    np.testing.assert_array_equal(weights(one, "device-000"), weights(other, "device-000"))
    assert (weights(one, "cloud") != weights(other, "cloud")).any()


def test_the_default_peak_is_the_papers_share_above_chance(method_of):
    assert method_of("feddkc").peak == pytest.approx(1.2 / 3)  # 0.12 at 10 classes


def test_a_peak_below_chance_is_refused(method_of):
    with pytest.raises(ConfigError, match=r"methods.feddkc.peak: got 0.12"):
        method_of("feddkc", {"peak": 0.12})
