import errno
import subprocess
import sys

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


NODE = 'federation = "f"\n[node]\nid = "n"\nstate = "s"\nmodel = "mlp"\n[parent]\nurl = "https://127.0.0.1:1"\n'
DATA = '[data]\nsource = "folder"\noptions = { path = "private" }\n'
WITHOUT = (
    "import sys; sys.modules[sys.argv[1]] = None; from fedagg_edge.fleet.run import main; sys.exit(main(sys.argv[2:]))"
)


@pytest.mark.parametrize(
    ("what", "tier", "package", "extra"),
    [
        ("gateway", "edge", "httptools", "edge"),
        ("train", "edge", "torch", "torch"),
        ("train", "device", "torch", "torch"),
    ],
)
def test_a_package_that_is_missing_ends_a_node_for_good_and_says_what_to_install(tmp_path, what, tier, package, extra):
    """The gateway ended with a traceback and code 1, a device with 70, "report it", without the package's name."""
    path = tmp_path / "node.toml"
    path.write_text(NODE + (DATA if tier == "device" else ""))
    words = [sys.executable, "-c", WITHOUT, package, what, tier, str(path)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == Exit.CONFIG, done.stderr
    assert done.stderr.startswith(f"fedagg: {package} is not installed; run: pip install 'fedagg-edge[{extra}]'")


def test_the_module_that_an_error_of_ours_lacks_is_in_the_log(monkeypatch, capsys, tmp_path):
    path = tmp_path / "device.toml"
    path.write_text(NODE + DATA)

    def lacks(*words, **options):
        raise ModuleNotFoundError(name="einops.layers")

    monkeypatch.setattr(member, "run_member", lacks)
    assert main(["train", "device", str(path)]) == Exit.SOFTWARE
    assert "error=ModuleNotFoundError" in (said := capsys.readouterr().err)
    assert "module=einops.layers" in said


@pytest.mark.parametrize("tier", list(Tier))
def test_the_heap_of_a_devices_process_alone_is_looked_after(monkeypatch, tier):
    done = []
    monkeypatch.setattr(memory, "one_arena", lambda: done.append("one arena"))
    monkeypatch.setattr(parts, "make_log", lambda config, tier: None)
    monkeypatch.setattr(member, "run_member", lambda *words, settle: done.append(settle))
    assert train(None, tier) is Exit.DONE
    assert [type(each) for each in done] == ([str, memory.Settling] if tier is Tier.DEVICE else [type(None)])
