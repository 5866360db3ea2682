from fedagg_edge.fleet import keys
from fedagg_edge.wire import terms


def test_no_two_facts_share_a_name_or_a_prefix():
    named = [getattr(keys, name) for name in keys.__all__] + [terms.DRAINING, terms.FINISHED, terms.PRESENT, "child/"]
    for one in named:
        assert not [other for other in named if other is not one and other.startswith(one)]
