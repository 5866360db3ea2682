import numpy as np
import pytest
from simulation.worlds import EDGE, bands, toy_config

from fedagg_edge.autoencoder import artefact
from fedagg_edge.errors import ArtefactError, ConfigError, DataError, LearnerError
from fedagg_edge.learners.torch import module_factory
from fedagg_edge.records import LogitsFormat, Tier
from fedagg_edge.simulation import build
from fedagg_edge.simulation.progress import Silent


@pytest.fixture
def autoencoder(artefact_path):
    return artefact.load(artefact_path)


def test_data_come_from_the_configuration():
    config = toy_config(data={"source": "digits", "options": {"test_forms": 1}})
    assert build.read_data(config).name == "digits"
    with pytest.raises(ConfigError, match="test_form"):
        build.read_data(toy_config(data={"source": "digits", "options": {"test_form": 1}}))


def test_the_digest_sees_every_change_of_the_data():
    groups = np.arange(48) // 12
    base = bands()
    x, y = base.train_x.copy(), base.train_y.copy()
    x[3, 0, 2, 2] ^= 1
    y[5] = (y[5] + 1) % 3
    variants = [
        base,
        bands(train_x=x),
        bands(train_y=y),
        bands(test_x=base.test_x[::-1].copy()),
        bands(test_y=np.roll(base.test_y, 1)),
        bands(group_N=groups),
        bands(group_N=groups[::-1].copy()),
        bands(group_N=groups.astype(str)),
    ]
    assert len({build.data_digest(d) for d in variants}) == len(variants)
    assert build.data_digest(base) == build.data_digest(bands())


def test_a_ready_autoencoder_is_loaded_by_path_and_pinned(artefact_path):
    digest = artefact.digest_of(artefact.load(artefact_path))
    config = toy_config(artefact_path, autoencoder={"path": str(artefact_path), "digest": digest})
    assert artefact.digest_of(build.obtain_autoencoder(config, bands())) == digest
    config = toy_config(autoencoder={"path": str(artefact_path), "digest": "0" * 64})
    with pytest.raises(ArtefactError, match="digest"):
        build.obtain_autoencoder(config, bands())


def test_a_path_is_taken_from_the_configurations_folder(artefact_path):
    from fedagg_edge.config import load_config

    path = artefact_path.parent / "experiment.toml"
    path.write_text(
        f'autoencoder.path = "{artefact_path.name}"\ndata.source = "digits"\n'
        '[tree]\nmodel = "mlp"\n[[tree.children]]\nmodel = "mlp"\n'
    )
    assert build.obtain_autoencoder(load_config(path), bands()).sample_shape == (1, 8, 8)


def test_without_a_path_one_is_trained_on_the_public_split_the_same_each_time():
    said, parts = [], []
    watcher = Silent()
    watcher.stage = said.append
    watcher.part = lambda *part: parts.append(part)
    config = toy_config(autoencoder={"epochs": 1, "embedding_channels": 1})
    first = build.obtain_autoencoder(config, bands(), watcher)
    assert said == ["training the autoencoder on 32 public samples"]
    assert parts == [(1, 1, "epochs")]
    assert first.report.trained_on == "public split of bands"
    assert first.embedding_shape[0] == 1
    np.testing.assert_array_equal(first.high_C, [16.0])
    # it knows nothing but the public split
    again = build.obtain_autoencoder(config, bands(train_y=np.zeros(48, np.int64), train_x=bands(seed=1).train_x))
    assert artefact.digest_of(first) == artefact.digest_of(again)
    other = build.obtain_autoencoder(toy_config(seed=1, autoencoder={"epochs": 1, "embedding_channels": 1}), bands())
    assert artefact.digest_of(first) != artefact.digest_of(other)


def test_a_preset_is_trained_when_the_configuration_names_one():
    config = toy_config(autoencoder={"epochs": 1, "preset": "guarded"})
    found = build.obtain_autoencoder(config, bands())
    assert (found.architecture, found.layout.name) == ("separable-postfilter", "packed-bits-tables")
    assert found.embedding_bytes == 8  # one bit for each of 64 coefficients


def test_neither_path_nor_public_split():
    with pytest.raises(ConfigError, match=r"autoencoder.path: missing, and the data 'bands' has no public split"):
        build.obtain_autoencoder(toy_config(), bands(public_x=None))


def test_an_autoencoder_for_other_samples():
    from autoencoder.making import make_artefact

    with pytest.raises(DataError, match=r"for samples of shape \(1, 16, 16\), the data 'bands' has \(1, 8, 8\)"):
        build.build_world(toy_config(), bands(), make_artefact((1, 16, 16)))


def test_every_node_owns_its_model_and_its_weights_come_from_seed_and_name(autoencoder):
    world, again = (build.build_world(toy_config(), bands(), autoencoder) for _ in range(2))
    learners = [n.learner for n in world.nodes.values()]
    assert len({id(x) for x in learners}) == 4
    weights = {name: n.learner.state().weights.tobytes() for name, n in world.nodes.items()}
    assert len(set(weights.values())) == 4
    assert weights == {name: n.learner.state().weights.tobytes() for name, n in again.nodes.items()}
    changed = build.build_world(toy_config(seed=1), bands(), autoencoder)
    assert not any(n.learner.state().weights.tobytes() == weights[name] for name, n in changed.nodes.items())


def test_only_devices_have_private_samples_and_each_row_is_on_one(autoencoder):
    world = build.build_world(toy_config(), bands(), autoencoder)
    assert {n for n, node in world.nodes.items() if node.samples is not None} == set(world.tree.tier(Tier.DEVICE))
    rows = np.concatenate(list(world.arrays.rows_of.values()))
    assert sorted(rows) == list(range(48))
    device = world.nodes["device-001"]
    np.testing.assert_array_equal(device.samples.x_N, world.arrays.train_x(world.arrays.rows_of["device-001"]))


def test_private_and_test_samples_share_the_models_scale(autoencoder):
    world = build.build_world(toy_config(), bands(), autoencoder)
    np.testing.assert_allclose(world.arrays.train_x(np.arange(48)), bands().train_x / 16.0, atol=1e-7)
    np.testing.assert_allclose(world.arrays.test_x_N, bands().test_x / 16.0, atol=1e-7)


def test_a_node_has_its_tiers_hyperparameters_and_the_runs_format(autoencoder):
    config = toy_config(knowledge="int8", training={"beta": 2.0, "edge": {"beta": 7.0, "optimizer": "adam"}})
    nodes = build.build_world(config, bands(), autoencoder).nodes
    assert [nodes[n].hyperparameters.beta for n in ("cloud", "edge-0", "device-000")] == [2.0, 7.0, 2.0]
    assert set(nodes["edge-0"].learner.state().slots) == {"exp_avg", "exp_avg_sq"}
    assert {n.knowledge_format for n in nodes.values()} == {LogitsFormat.INT8}


def test_models_by_share_and_by_table(autoencoder):
    devices = {"model": {"small": 0.5, "mlp": 0.5}, "count": 4}
    config = toy_config(
        models={"small": {"builder": "mlp", "options": {"hidden": [4]}}},
        tree={"model": "mlp", "children": [{"model": "mlp", "children": [devices]}]},
    )
    world = build.build_world(config, bands(), autoencoder)
    sizes = sorted(world.nodes[d].learner.state().weights.size for d in world.tree.tier(Tier.DEVICE))
    assert sizes == [64 * 4 + 4 + 4 * 3 + 3] * 2 + [64 * 32 + 32 + 32 * 3 + 3] * 2


def test_an_unknown_model_or_engine_is_named(autoencoder):
    with pytest.raises(LearnerError, match=r"got 'mlpp' .did you mean 'mlp'"):
        build.build_world(toy_config(tree={"model": "mlpp", "children": [EDGE]}), bands(), autoencoder)
    with pytest.raises(ConfigError, match="nowhere"):
        build.build_world(toy_config(training={"engine": "nowhere:make"}), bands(), autoencoder)


def test_a_factory_for_no_model_of_the_tree_is_named(autoencoder):
    with pytest.raises(ConfigError, match=r"got 'mpl' .did you mean 'mlp'.*, expected names that the tree uses: mlp"):
        build.build_world(toy_config(), bands(), autoencoder, {"mpl": module_factory(lambda **_: None)})
