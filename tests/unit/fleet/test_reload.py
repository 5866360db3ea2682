import io

import pytest

from fedagg_edge.errors import IdentityError
from fedagg_edge.fleet.logs import Log
from fedagg_edge.fleet.reload import Reloaded


@pytest.fixture
def text(tmp_path):
    """A number in a file, how often it was read, and the log."""
    path, read, log = tmp_path / "n", [], io.StringIO()

    def make():
        read.append(1)
        if not path.exists():
            raise IdentityError(f"{path}: not there")
        return int(path.read_text()) if path.read_text().isdigit() else (_ for _ in ()).throw(IdentityError("damaged"))

    return path, read, log, Reloaded([path], make, Log(log))


def replace(path, content):
    beside = path.with_name("beside")
    beside.write_text(content)
    beside.replace(path)


def test_it_is_made_again_when_the_file_was_replaced_and_only_then(text):
    path, read, _, value = text
    replace(path, "1")
    assert (value.get(), value.get(), len(read)) == (1, 1, 1)
    replace(path, "2")
    assert (value.get(), value.get(), len(read)) == (2, 2, 2)


def test_what_is_damaged_leaves_the_last_good_one_and_is_told_once(text):
    path, read, log, value = text
    replace(path, "1")
    value.get()
    for wrong in ("x", None):
        path.unlink() if wrong is None else replace(path, wrong)
        assert (value.get(), value.get()) == (1, 1)
    assert len(read) == 3
    assert log.getvalue().count("reload_failed error=IdentityError") == 2
    replace(path, "4")
    assert value.get() == 4


def test_without_a_good_one_it_raises_each_time(text):
    path, _, _, value = text
    for _ in range(2):
        with pytest.raises(IdentityError, match="not there"):
            value.get()
    replace(path, "5")
    assert value.get() == 5
