import numpy as np
import pytest
import torch
from baselines.rounds import run, weights

from fedagg_edge.baselines.kkr import refine
from fedagg_edge.errors import ConfigError


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_the_cloud_distils_refined_knowledge(method_of, temperature):
    """CE + beta * T^2 * KL(refined tau(z_device / T) || tau(z_cloud / T)), in float64 by torch."""
    method = method_of("feddkc", {"temperature": temperature, "peak": 0.5}, training={"batch_size": 64})
    server = method.learners["cloud"].state()
    _, heard = run(method)
    device = method.devices[0]
    x_N, y_N = method._private(device)
    refined_NC = np.exp(refine(method.learners[device].logits(x_N) / np.float32(temperature), 0.5).astype(np.float64))
    np.testing.assert_allclose(refined_NC.max(axis=1), 0.5, rtol=1e-4)
    method.learners["cloud"].load_state(server)
    student_NC = torch.from_numpy(method._cloud_logits(device, x_N).astype(np.float64))
    kl = torch.nn.functional.kl_div(
        (student_NC / temperature).log_softmax(1), torch.from_numpy(refined_NC), reduction="batchmean"
    )
    ce = torch.nn.functional.cross_entropy(student_NC, torch.from_numpy(y_N))
    assert heard[4][0] == "cloud"
    assert heard[4][1] == pytest.approx(float(ce + 1.5 * temperature**2 * kl), rel=1e-5)


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
