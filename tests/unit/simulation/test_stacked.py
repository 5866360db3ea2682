import numpy as np
import pytest
from simulation.worlds import bands, toy_config

from fedagg_edge import simulate
from fedagg_edge.config import Hyperparameters
from fedagg_edge.errors import ConfigError
from fedagg_edge.learners.torch import TorchLearner
from fedagg_edge.records import Tier
from fedagg_edge.simulation import stacked
from fedagg_edge.simulation.build import build_world
from fedagg_edge.simulation.driver import Traffic
from fedagg_edge.simulation.fedagg import FedAgg


def cnn_tree(model="cnn3"):
    return {"model": "mlp", "children": [{"model": "mlp", "children": [{"model": model, "count": 3}]}] * 2}


def config(path, **changes):
    # Dirichlet shares, so that devices differ in their number of samples and of batches
    partition = {"rule": "dirichlet", "options": {"alpha": 1.0, "min_samples": 2}}
    training = {"device": {"batch_size": 4, "learning_rate": 0.02, "epochs": 2}}
    defaults = {"schedule": "snapshot", "partition": partition, "training": training, "tree": cnn_tree()}
    return toy_config(path, **{**defaults, **changes})


def distance(one, other):
    """The largest of all nodes' distances, of weights and momentum, relative to their own size."""
    worst = 0.0
    for name, node in one.nodes.items():
        a, b = node.learner.state(), other.nodes[name].learner.state()
        for x, y in ((a.weights, b.weights), (a.slots["momentum"], b.slots["momentum"])):
            worst = max(worst, float(np.linalg.norm(x - y) / np.linalg.norm(x)))
    return worst


def run(path, rounds=3, nudge=0.0, **changes):
    from fedagg_edge.autoencoder import artefact

    world = build_world(config(path, **changes), bands(train=90), artefact.load(path))
    rng = np.random.default_rng(0)
    for node in world.nodes.values():
        state = node.learner.state()
        state.weights[:] *= 1 + np.float32(nudge) * rng.choice([-1, 1], len(state.weights)).astype(np.float32)
        node.learner.load_state(state)
    method, traffic, heard = FedAgg(world, {}), Traffic(), []
    method.init(traffic)
    for number in range(rounds):
        method.round(number, traffic, lambda node, loss: heard.append((node, loss)))
    return world, traffic, heard


@pytest.fixture
def counted(monkeypatch):
    """How many learners each stacked step moved."""
    from fedagg_edge.learners import stacked as steps

    seen, real = [], steps.stacked_step

    def counting(learners, *rest):
        seen.append(len(learners))
        return real(learners, *rest)

    monkeypatch.setattr(steps, "stacked_step", counting)
    return seen


@pytest.mark.parametrize("model", ["cnn3", "mlp"])
def test_rounds_are_those_of_devices_one_by_one(artefact_path, model, counted):
    one, sent, said = run(artefact_path, tree=cnn_tree(model))
    assert counted == []
    other, sent_too, said_too = run(artefact_path, tree=cnn_tree(model), stacked=True)
    assert max(counted) > 2
    sizes = {len(node.samples) for node in one.nodes.values() if node.samples is not None}
    assert len(sizes) > 1
    # Sums run in another order, and training at batch 4 spreads such differences. So the yardstick is measured: the
    # same devices one by one, from weights moved by a float32's last bit or so.
    nudged, _, _ = run(artefact_path, tree=cnn_tree(model), nudge=1e-7)
    assert 0 < distance(one, other) < max(10 * distance(one, nudged), 1e-6)
    for name, node in one.nodes.items():
        assert other.nodes[name].learner.state().steps == node.learner.state().steps
    assert (sent.up, sent.down) == (sent_too.up, sent_too.down)
    assert sorted(n for n, _ in said) == sorted(n for n, _ in said_too)
    assert sum(x for _, x in said) == pytest.approx(sum(x for _, x in said_too), rel=1e-3)


def test_stacks_at_work_at_the_same_time_come_to_the_same_bits(artefact_path, counted):
    tree = {"model": "mlp", "children": [{"model": "mlp", "children": [{"model": "mlp", "count": 20}]}]}
    one, other = (run(artefact_path, 1, tree=tree, stacked=True, workers=workers)[0] for workers in (1, 2))
    assert max(counted) > 2
    assert distance(one, other) == 0


def test_a_stack_follows_the_learning_rates_schedule(artefact_path, counted):
    constant = {"batch_size": 4, "learning_rate": 0.02}
    falling = {**constant, "learning_rate_schedule": "step", "decay_rounds": 1, "decay_factor": 0.1}
    one, other, unscheduled = (
        run(artefact_path, training={"device": device}, tree=cnn_tree("mlp"), stacked=stack)[0]
        for device, stack in ((falling, False), (falling, True), (constant, True))
    )
    assert counted
    assert distance(one, other) < 1e-4 < distance(one, unscheduled)


def test_a_stack_distils_as_its_options_say(artefact_path, counted):
    plain = {"batch_size": 4, "learning_rate": 0.02}
    asks = {
        **plain,
        "distillation": "decoupled",
        "non_target_weight": 3.0,
        "parent_temperature": 1.5,
        "parent_beta": 2.0,
    }
    one, other, unlike = (
        run(artefact_path, training={"device": device}, tree=cnn_tree("mlp"), stacked=stack)[0]
        for device, stack in ((asks, False), (asks, True), (plain, True))
    )
    assert counted
    assert distance(one, other) < 1e-4 < distance(one, unlike)


def test_a_stack_takes_each_devices_batch_norm_anew(artefact_path, counted):
    plain = {"batch_size": 4, "learning_rate": 0.02}
    one, other, unlike = (
        run(artefact_path, 1, training={"device": device}, tree=cnn_tree("cnn3"), stacked=stack)[0]
        for device, stack in (
            ({**plain, "batch_norm_rows": 64}, False),
            ({**plain, "batch_norm_rows": 64}, True),
            (plain, True),
        )
    )
    assert counted
    assert distance(one, other) < 1e-4 < distance(one, unlike)


def test_a_whole_run_measures_the_same(artefact_path, tmp_path, counted):
    results = {}
    for setting in (False, "auto"):
        settings = config(artefact_path, stacked=setting)
        results[setting] = simulate(settings, dataset=bands(train=90), out=tmp_path / str(setting))
    assert counted
    np.testing.assert_allclose(results["auto"].accuracy_RV, results[False].accuracy_RV, atol=1.01 / 18)  # one sample


def test_auto_leaves_the_paper_schedule_and_unknown_models_alone(artefact_path, counted):
    run(artefact_path, 1, schedule="sequential", stacked="auto")
    assert counted == []
    world, _, _ = run(artefact_path, 1, tree=cnn_tree("resnet10"), stacked="auto")
    assert counted == []
    assert type(next(iter(world.nodes.values())).learner) is TorchLearner


def test_auto_leaves_wide_models_one_by_one(artefact_path, counted):
    wide = {"models": {"wide": {"builder": "mlp", "options": {"hidden": [900]}}}, "tree": cnn_tree("wide")}
    run(artefact_path, 1, stacked="auto", **wide)
    assert counted == []
    run(artefact_path, 1, stacked=True, **wide)
    assert counted


def test_true_says_what_does_not_fit(artefact_path):
    with pytest.raises(ConfigError, match=r"stacked: got true with schedule 'sequential'.*take schedule"):
        run(artefact_path, 1, schedule="sequential", stacked=True)
    with pytest.raises(ConfigError, match="stacked: got true, but device-000 cannot be stacked: its model is not"):
        run(artefact_path, 1, tree=cnn_tree("resnet10"), stacked=True)


def test_an_option_that_is_not_known_keeps_a_device_apart(artefact_path, monkeypatch):
    changed = {"device": {"batch_size": 4, "gamma": 0.5}}
    world, _, _ = run(artefact_path, 0, training=changed)
    device = next(n for n in world.nodes.values() if n.place.tier is Tier.DEVICE)
    assert stacked.reason(device) is None
    monkeypatch.setattr(stacked, "_KNOWN", stacked._KNOWN - {"gamma"})
    assert stacked.reason(device) == "its option gamma is not known to stacked training"
    assert "tier" in str(stacked.reason(world.nodes[device.place.parent]))


def test_every_known_option_exists():
    assert {*stacked._KNOWN} <= {*Hyperparameters.__struct_fields__}
