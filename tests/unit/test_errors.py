import inspect

import pytest

from fedagg_edge import errors


def test_everything_raised_on_purpose_is_one_family():
    kinds = [e for _, e in inspect.getmembers(errors, inspect.isclass) if e.__module__ == errors.__name__]
    assert len(kinds) == 22
    assert all(issubclass(e, errors.FedaggError) for e in kinds)
    assert issubclass(errors.ConfigError, ValueError)
    assert issubclass(errors.DataError, ValueError)
    assert issubclass(errors.OutboxFull, errors.StorageFull)


@pytest.mark.parametrize(
    ("wrong", "hint"), [("rouns", " (did you mean 'rounds'?)"), ("xyzzy", ""), ("see", " (did you mean 'seed'?)")]
)
def test_nearest(wrong, hint):
    assert errors.nearest(wrong, ["rounds", "seed"]) == hint
