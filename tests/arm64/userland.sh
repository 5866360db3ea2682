#!/usr/bin/env bash
# A board's userland on this machine: a Debian root of 64-bit ARM under qemu, the wheel installed there by pip as a user would,
# and in it: what was chosen, the kernels' tests on NEON and on scalar code, the numbers that were made on x86 (test_numbers.py),
# and a device agent in a fleet whose cloud and edge run natively on this machine (test_fleet.py).
# usage: tests/arm64/userland.sh [--full] WHEEL [FOLDER]      (make test-arm64 and test-arm64-full build the wheel first)
#
# --full adds the tests of what an agent stands on (wire, ledger, identity), and makes it six rounds for two.
# The cloud and the edge run in PYTHON (.venv/bin/python), which has torch.
# A wheel for Python 3.11 gets the root of Debian 12, one for 3.13 that of Debian 13. FOLDER (build/arm64) keeps it. Needs mmdebstrap, qemu-user-static, binfmt-support's qemu files, and Linux 6.7 or newer:
# binfmt_misc is registered in a user namespace of this run's own, so nothing on the host changes. Mirrors are those of the
# machine's apt and pip. Time under qemu says nothing about a board.
set -euo pipefail
top=$(cd "$(dirname "$0")/../.." && pwd)
full='' python=${PYTHON:-$top/.venv/bin/python}
[ "${1:-}" != --full ] || { full=yes && shift; }
[ $# -ge 1 ] && [ -f "$1" ] || { echo "userland: got no wheel: tools/build-wheel-aarch64 makes one" >&2; exit 64; }
wheel=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
folder=${2:-$top/build/arm64}
case $(basename "$wheel") in # whose Python the wheel is for
  *-cp311-*) suite=bookworm version=3.11 ;;
  *-cp313-*) suite=trixie version=3.13 ;;
  *) echo "userland: got $(basename "$wheel"), expected a wheel for cp311 or cp313: no Debian release has another Python" >&2; exit 64 ;;
esac
root=$folder/root-$suite
mkdir -p "$folder"

make_root() {
  local sources=$folder/sources.list
  apt-get indextargets --format 'deb $(REPO_URI) '$suite' main' 'Created-By: Packages' 'Origin: Debian' 'Label: Debian' | sort -u >"$sources"
  [ -s "$sources" ] || { echo "userland: no Debian mirror in apt's configuration: run apt-get update" >&2; exit 69; }
  rm -rf "$root"
  mmdebstrap --quiet --variant=extract --architectures=arm64 --skip=check/qemu \
    --include=coreutils,bash,python3,python3-venv,ca-certificates,libstdc++6 $suite "$root" - <"$sources"
}

inside() { # a command in the root, this checkout at /mnt/host
  "$top/tests/arm64/inside.sh" "$root" "$@"
}

step() {
  local title=$1 began=$SECONDS
  shift
  printf '\n== %s\n' "$title"
  "$@"
  printf -- '-- %s: %d s\n' "$title" $((SECONDS - began))
}

step "a root of arm64" make_root
cp "$wheel" "$root/tmp/"
step "an environment" inside python3 -m venv --without-pip /venv
step "pip" inside bash -c 'python3 /usr/share/python-wheels/pip-*.whl/pip --version 2>/dev/null || true
  PYTHONPATH=$(ls /usr/share/python-wheels/pip-*.whl) /venv/bin/python -m pip install -q pip'
step "the wheel from pip" inside python -m pip install -q "/tmp/$(basename "$wheel")[litert,enroll]"
step "its size" inside du -sm --apparent-size /venv /venv/lib/python$version/site-packages/{ai_edge_litert,numpy,fedagg_edge}
step "test tools from pip" inside python -m pip install -q pytest hypothesis
step "what was chosen" inside bash -c 'python -c "import ai_edge_litert.interpreter" && fedagg doctor' # without it tests would be skipped
for isa in neon scalar; do # C++ errors arrive as Python exceptions: test_refusals
  step "kernels on $isa" inside env FEDAGG_FORCE_ISA=$isa python -m pytest -q -p no:cacheprovider \
    /mnt/host/tests/kernels/test_{isa,refusals,codec,sgd,distill_loss,aggregate}.py /mnt/host/tests/arm64/test_{numbers,rows}.py
done
step "a device agent in a fleet" env FEDAGG_ARM64_ROOT="$root" FEDAGG_ARM64_ROUNDS="${full:+6}" "$python" -m pytest -q -m slow "$top/tests/arm64/test_fleet.py"
[ -n "$full" ] || exit 0
step "what an agent stands on" inside python -m pytest -q -p no:cacheprovider -m "not slow" \
  /mnt/host/tests/{wire,unit/wire,unit/ledger,unit/identity}
