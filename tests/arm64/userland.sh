#!/usr/bin/env bash
# A board's userland on this machine: a Debian root of 64-bit ARM under qemu, the wheel installed there by pip as a user would,
# and in it: what was chosen, the kernels' tests on NEON and on scalar code, the numbers that were made on x86 (test_numbers.py).
# usage: tests/arm64/userland.sh WHEEL [FOLDER]      (make test-arm64 builds the wheel first)
#
# FOLDER (build/arm64) keeps the root. Needs mmdebstrap, qemu-user-static, binfmt-support's qemu files, and Linux 6.7 or newer:
# binfmt_misc is registered in a user namespace of this run's own, so nothing on the host changes. Mirrors are those of the
# machine's apt and pip. Time under qemu says nothing about a board.
set -euo pipefail
top=$(cd "$(dirname "$0")/../.." && pwd)
[ $# -ge 1 ] && [ -f "$1" ] || { echo "userland: got no wheel: tools/build-wheel-aarch64 makes one" >&2; exit 64; }
wheel=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
folder=${2:-$top/build/arm64}
root=$folder/root
mkdir -p "$folder"

make_root() {
  local sources=$folder/sources.list
  apt-get indextargets --format 'deb $(REPO_URI) bookworm main' 'Created-By: Packages' 'Origin: Debian' 'Label: Debian' | sort -u >"$sources"
  [ -s "$sources" ] || { echo "userland: no Debian mirror in apt's configuration: run apt-get update" >&2; exit 69; }
  rm -rf "$root"
  mmdebstrap --quiet --variant=extract --architectures=arm64 --skip=check/qemu \
    --include=coreutils,bash,python3,python3-venv,ca-certificates,libstdc++6 bookworm "$root" - <"$sources"
}

inside() { # a command in the root, this checkout at /mnt/host; the environment is only what pip needs to reach the registry
  local pass=()
  for name in HTTP_PROXY HTTPS_PROXY NO_PROXY http_proxy https_proxy no_proxy "${!PIP_@}"; do
    case ${!name:-} in '' | /* | file:*) ;; *) pass+=("$name=${!name}") ;; esac # what lies on this machine is not there
  done
  unshare --user --map-root-user --mount --pid --fork bash -euc '
    root=$1 host=$2 count=$3
    shift 3
    mount -t binfmt_misc none /proc/sys/fs/binfmt_misc
    sed "s#/usr/libexec/qemu-binfmt/[^:]*#/usr/bin/qemu-aarch64-static#; s#:[A-Z]*\$#:OCF#" /usr/lib/binfmt.d/qemu-aarch64.conf \
      >/proc/sys/fs/binfmt_misc/register
    mkdir -p "$root/proc" "$root/dev" "$root/tmp" "$root/mnt/host" "$root/mnt/wheel" "$root/etc/ssl/certs"
    mount --rbind /dev "$root/dev"
    mount -t proc proc "$root/proc"
    mount --rbind "$host" "$root/mnt/host"
    cp /etc/resolv.conf "$root/etc/resolv.conf"
    cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
    pass=("${@:1:count}")
    shift "$count"
    exec chroot "$root" /usr/bin/env -i HOME=/root PATH=/venv/bin:/usr/bin:/bin LANG=C.UTF-8 PIP_DISABLE_PIP_VERSION_CHECK=1 \
      PIP_CERT=/etc/ssl/certs/ca-certificates.crt PIP_NO_CACHE_DIR=1 PYTHONDONTWRITEBYTECODE=1 "${pass[@]}" "$@"
  ' _ "$root" "$top" "${#pass[@]}" "${pass[@]}" "$@"
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
step "the wheel from pip" inside python -m pip install -q "/tmp/$(basename "$wheel")[litert]"
step "test tools from pip" inside python -m pip install -q pytest hypothesis
step "what was chosen" inside fedagg doctor
for isa in neon scalar; do # C++ errors arrive as Python exceptions: test_refusals
  step "kernels on $isa" inside env FEDAGG_FORCE_ISA=$isa python -m pytest -q -p no:cacheprovider \
    /mnt/host/tests/kernels/test_{isa,refusals,codec,sgd,distill_loss}.py /mnt/host/tests/arm64
done
