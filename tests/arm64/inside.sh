#!/usr/bin/env bash
# Runs a command in an arm64 root that userland.sh made, under qemu; this checkout is at /mnt/host, 127.0.0.1 is this machine's.
# usage: [WRITABLE=FOLDER] tests/arm64/inside.sh ROOT COMMAND [ARGUMENT ...]
#
# WRITABLE, a folder in the root, makes everything else there read-only, as on many boards.
# binfmt_misc is registered in a user namespace of this run's own (Linux 6.7 or newer), so nothing on the host changes. A
# SIGTERM to this script's process group reaches the command.
set -euo pipefail
top=$(cd "$(dirname "$0")/../.." && pwd)
[ $# -ge 2 ] && [ -d "$1/usr" ] || { echo "inside: got no root of arm64: tests/arm64/userland.sh makes one" >&2; exit 64; }
root=$(cd "$1" && pwd)
shift
pass=() # the environment is only what pip needs to reach the registry
for name in HTTP_PROXY HTTPS_PROXY NO_PROXY http_proxy https_proxy no_proxy "${!PIP_@}"; do
  case ${!name:-} in '' | /* | file:*) ;; *) pass+=("$name=${!name}") ;; esac # what lies on this machine is not there
done
exec unshare --user --map-root-user --mount --pid --fork --kill-child bash -euc '
  root=$1 host=$2 writable=$3 count=$4
  shift 4
  if [ -n "$writable" ]; then # a mount of its own, before anything is mounted below it
    mount --bind "$root" "$root"
    cd "$root/$writable" && mount --bind . . && cd /
    mount -o remount,bind,ro "$root"
  fi
  mount -t binfmt_misc none /proc/sys/fs/binfmt_misc
  sed "s#/usr/libexec/qemu-binfmt/[^:]*#/usr/bin/qemu-aarch64-static#; s#:[A-Z]*\$#:OCF#" /usr/lib/binfmt.d/qemu-aarch64.conf \
    >/proc/sys/fs/binfmt_misc/register
  [ -n "$writable" ] || mkdir -p "$root/proc" "$root/dev" "$root/tmp" "$root/mnt/host" "$root/etc/ssl/certs"
  mount --rbind /dev "$root/dev"
  mount -t proc proc "$root/proc"
  mount --rbind "$host" "$root/mnt/host"
  if [ -z "$writable" ]; then
    cp /etc/resolv.conf "$root/etc/resolv.conf"
    cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
  fi
  pass=("${@:1:count}")
  shift "$count"
  exec chroot "$root" /usr/bin/env -i HOME=/root PATH=/venv/bin:/usr/bin:/bin LANG=C.UTF-8 PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_CERT=/etc/ssl/certs/ca-certificates.crt PIP_NO_CACHE_DIR=1 PYTHONDONTWRITEBYTECODE=1 "${pass[@]}" "$@"
' _ "$root" "$top" "${WRITABLE:-}" "${#pass[@]}" "${pass[@]}" "$@"
