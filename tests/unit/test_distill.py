import numpy as np
import pytest
import torch
from algorithm2 import Linear, Transcription
from toys import CLASSES, SHAPE, IdentityBridge, hyperparameters, small_tree

from fedagg_edge import distill
from fedagg_edge.config import NodeGroup
from fedagg_edge.learners.torch import TorchLearner
from fedagg_edge.node import Node
from fedagg_edge.records import LogitsFormat, Tier
from fedagg_edge.samples import PrivateSamples
from fedagg_edge.simulation.driver import Traffic, drive
from fedagg_edge.store import MemoryStore
from fedagg_edge.tree import plant

ROWS = 10  # no multiple of the batch size, and no tree below leaves a batch of one row (see passes.cut_batches)


def make_nodes(tree, hp, seed=3):
    """A node per place with a linear torch model and, for devices, random private samples."""
    nodes = {}
    for place in tree.places.values():
        rng = np.random.default_rng([seed, *place.id.encode()])
        linear = torch.nn.Linear(4, CLASSES)
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(rng.normal(size=(CLASSES, 4)).astype(np.float32)))
            linear.bias.zero_()
        samples = None
        if place.tier is Tier.DEVICE:
            x_N = rng.random((ROWS, *SHAPE), np.float32)
            samples = PrivateSamples(place.id, CLASSES, x_N, rng.integers(0, CLASSES, ROWS))
        nodes[place.id] = Node(
            place=place,
            federation="toy",
            classes=CLASSES,
            seed=seed,
            learner=TorchLearner(torch.nn.Sequential(torch.nn.Flatten(), linear)),
            bridge=IdentityBridge(),
            store=MemoryStore(),
            hyperparameters=hp,
            knowledge_format=LogitsFormat.F32,
            samples=samples,
        )
    return nodes


def transcribe(tree, nodes, hp, seed=3):
    bridge = IdentityBridge()
    models, leaf_data = {}, {}
    for name, node in nodes.items():
        arrays = node.learner.state().arrays()
        models[name] = Linear(arrays["1.weight"].T, arrays["1.bias"])
        if node.samples is not None:
            x_N, y_N = node.samples.x_N, node.samples.y_N
            leaf_data[name] = (x_N, y_N, bridge.decode(bridge.encode(x_N)))
    return Transcription(tree, models, leaf_data, hp, seed)


def run(tree, nodes, schedule, rounds):
    traffic = Traffic()
    drive({n: distill.init(tree.places[n]) for n in tree.post_order()}, nodes, version=0, traffic=traffic)
    for number in range(rounds):
        programs = {n: distill.SCHEDULES[schedule](tree.places[n], number) for n in tree.post_order()}
        drive(programs, nodes, version=number, traffic=traffic)
    return traffic


def assert_same(nodes, expected):
    for name, node in nodes.items():
        arrays = node.learner.state().arrays()
        np.testing.assert_allclose(arrays["1.weight"].T, expected.models[name].w, atol=2e-5)
        np.testing.assert_allclose(arrays["1.bias"], expected.models[name].b, atol=2e-5)


FORMS = [
    {},
    {"kl": "student||teacher"},
    {"temperature_on": "teacher"},
    {"kl": "student||teacher", "temperature_on": "teacher", "beta": 0.5, "gamma": 2.0},
]


@pytest.mark.parametrize("form", FORMS)
def test_whole_rounds_are_algorithm_2(form):
    hp = hyperparameters(**form)
    tree = small_tree()
    nodes = make_nodes(tree, hp)
    paper = transcribe(tree, nodes, hp)
    run(tree, nodes, "sequential", 2)
    for number in range(2):
        paper.round("cloud", number)
    assert_same(nodes, paper)


@pytest.mark.parametrize("form", FORMS[:2])
def test_the_snapshot_schedule_is_its_own_transcription(form):
    hp = hyperparameters(**form)
    tree = small_tree()
    nodes = make_nodes(tree, hp)
    paper = transcribe(tree, nodes, hp)
    run(tree, nodes, "snapshot", 2)
    for number in range(2):
        paper.round_snapshot("cloud", number)
    assert_same(nodes, paper)


def test_the_schedules_are_not_the_same():
    hp, tree = hyperparameters(), small_tree()
    one, other = make_nodes(tree, hp), make_nodes(tree, hp)
    run(tree, one, "sequential", 1)
    run(tree, other, "snapshot", 1)
    assert not np.allclose(one["edge-0"].learner.state().weights, other["edge-0"].learner.state().weights, atol=1e-4)


UNEVEN = NodeGroup(
    model="m",
    children=(
        NodeGroup(model="m", count=2),
        NodeGroup(model="m", children=(NodeGroup(model="m", children=(NodeGroup(model="m", count=2),)),)),
    ),
)


@pytest.mark.parametrize("schedule", ["sequential", "snapshot"])
@pytest.mark.parametrize("root", [NodeGroup(model="m", children=(NodeGroup(model="m", count=3),)), UNEVEN])
def test_other_depths_and_uneven_trees(schedule, root):
    hp, tree = hyperparameters(), plant(root, 0)
    nodes = make_nodes(tree, hp)
    paper = transcribe(tree, nodes, hp)
    run(tree, nodes, schedule, 1)
    paper.round("cloud", 0) if schedule == "sequential" else paper.round_snapshot("cloud", 0)
    assert_same(nodes, paper)


def test_embeddings_reach_every_ancestor_with_their_labels():
    tree = plant(UNEVEN, 0)
    nodes = make_nodes(tree, hyperparameters())
    run(tree, nodes, "sequential", 0)
    root = nodes["cloud"].store.read_all()
    assert root.samples.origins == tree.tier(Tier.DEVICE)
    for i, device in enumerate(tree.tier(Tier.DEVICE)):
        np.testing.assert_array_equal(root.label_N[i * ROWS : (i + 1) * ROWS], nodes[device].samples.y_N)
    assert nodes["edge-2"].store.read_all().samples.digest == nodes["cloud"].store.read("edge-2").samples.digest


def test_the_same_seed_gives_the_same_bits():
    hp, tree = hyperparameters(), small_tree()
    first, second = make_nodes(tree, hp), make_nodes(tree, hp)
    run(tree, first, "sequential", 2)
    run(tree, second, "sequential", 2)
    for name in tree.places:
        np.testing.assert_array_equal(first[name].learner.state().weights, second[name].learner.state().weights)


def test_a_program_asks_in_the_order_of_algorithm_1():
    edge = small_tree().places["edge-0"]
    asked = []
    program = distill.round_sequential(edge, 5)
    answer = None
    try:
        while True:
            request = program.send(answer)
            asked.append((type(request).__name__, str(getattr(request, "link", ""))))
            answer = "knowledge" if isinstance(request, distill.Receive | distill.Predict) else None
    except StopIteration:
        pass
    teach, learn = ["Predict", "Publish"], ["Receive", "Train"]
    assert [kind for kind, _ in asked] == [*teach, *learn, *teach, *learn, *learn, *teach]
    assert asked[0] == ("Predict", "device-000->edge-0")
    assert asked[-2] == ("Predict", "edge-0->cloud")


def asked_by(program, answers):
    """What a program asks, each request answered by the first type that fits."""
    asked, answer = [], None
    try:
        while True:
            request = program.send(answer)
            asked.append(type(request).__name__)
            answer = next((a for kind, a in answers.items() if isinstance(request, kind)), None)
    except StopIteration:
        return asked


@pytest.mark.parametrize(
    ("heard", "expected"),
    [
        ((), ["Predict", "Publish"] * 2 + ["Freshest", "Freshest", "Predict", "Publish"]),
        (("k",), ["Predict", "Publish"] * 2 + ["Freshest", "Train", "Freshest", "Train", "Predict", "Publish"]),
    ],
)
def test_the_async_turn_trains_on_what_there_is_and_never_waits(heard, expected):
    edge = small_tree().places["edge-0"]
    assert asked_by(distill.round_async(edge, 3), {distill.Freshest: heard, distill.Predict: "knowledge"}) == expected


def test_a_round_whose_children_all_kept_silent_goes_on():
    cloud = small_tree().places["cloud"]
    asked = asked_by(distill.round_snapshot(cloud, 3), {distill.Gather: (), distill.Predict: "knowledge"})
    assert asked == ["Predict", "Publish", "Gather"]
