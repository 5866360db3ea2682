"""Running a method's rounds by hand. No test lives here."""

from fedagg_edge.simulation.driver import Traffic


def weights(method, node):
    return method.learners[node].state().weights


def run(method, rounds=1, first=0):
    """Run rounds; return the traffic and the (node, loss) pairs that were reported."""
    traffic, heard = Traffic(), []
    for number in range(first, first + rounds):
        method.round(number, traffic, lambda node, loss: heard.append((node, loss)))
    return traffic, heard
