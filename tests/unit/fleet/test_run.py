import errno

import pytest

from fedagg_edge import errors
from fedagg_edge.fleet import member, memory, parts
from fedagg_edge.fleet.exits import PERMANENT, Exit
from fedagg_edge.fleet.run import exit_of, main, train
from fedagg_edge.records import Tier


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.ConfigError("x"), Exit.CONFIG),
        (errors.IdentityBusy("x"), Exit.TEMPORARY),
        (errors.IdentityError("x"), Exit.IDENTITY),
        (errors.StateInUse("x"), Exit.IN_USE),
        (errors.StorageFull("x"), Exit.STORAGE),
        (errors.StorageFailed("x"), Exit.STORAGE),
        (errors.StorageError("x"), Exit.STATE),
        (errors.DataError("x"), Exit.USER),
        (errors.StorageBusy("x"), Exit.TEMPORARY),
        (OSError(errno.ENOSPC, "x"), Exit.STORAGE),
        (ConnectionResetError("x"), Exit.TEMPORARY),
        (ZeroDivisionError("x"), Exit.SOFTWARE),
    ],
)
def test_every_error_has_its_exit_code(error, code):
    assert exit_of(error) is code


def test_what_may_pass_is_not_permanent():
    storage = (errors.StorageFull("x"), errors.StorageBusy("x"), errors.StorageFailed("x"))
    passing = (*storage, OSError(errno.ENOSPC, "x"), ZeroDivisionError("x"))
    assert not {exit_of(error) for error in passing} & PERMANENT


def test_a_wrong_file_ends_for_good_and_says_why(tmp_path, capsys):
    path = tmp_path / "cloud.toml"
    path.write_text('federation = "f"\n[node]\nid = "cloud"\nstate = "s"\nmodle = "mlp"\n')
    assert main(["train", "cloud", str(path)]) == Exit.CONFIG
    assert Exit.CONFIG in PERMANENT
    assert "node.modle: unknown key 'modle' (did you mean 'model'?)" in capsys.readouterr().err


def test_a_node_without_a_certificate_or_a_token_says_what_to_do(tmp_path, capsys):
    path = tmp_path / "edge.toml"
    path.write_text(
        'federation = "f"\n[node]\nid = "e"\nstate = "s"\nmodel = "mlp"\n[parent]\nurl = "https://127.0.0.1:1"\n'
    )
    assert main(["gateway", "edge", str(path)]) == Exit.IDENTITY
    assert "this node has no certificate; run `fedagg enroll`" in capsys.readouterr().err


@pytest.mark.parametrize("tier", list(Tier))
def test_the_heap_of_a_devices_process_alone_is_looked_after(monkeypatch, tier):
    done = []
    monkeypatch.setattr(memory, "one_arena", lambda: done.append("one arena"))
    monkeypatch.setattr(parts, "make_log", lambda config, tier: None)
    monkeypatch.setattr(member, "run_member", lambda *words, settle: done.append(settle))
    assert train(None, tier) is Exit.DONE
    assert [type(each) for each in done] == ([str, memory.Settling] if tier is Tier.DEVICE else [type(None)])
