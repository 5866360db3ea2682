#!/usr/bin/env bash
# The tests of test.sh on a 64-bit ARM Java under qemu, with the NEON library cross-built: in a Debian root of arm64, beside a
# fleet that runs natively. Interpreted Java under emulation: its time says nothing about a phone.
# usage: android_bridge/test-arm64.sh [BUILD_FOLDER] [JUnit console options]
#
# Needs what test.sh needs, g++-aarch64-linux-gnu, mmdebstrap, qemu-user-static, and Linux 6.7 or newer: binfmt_misc is
# registered in a user namespace of this run's own, so nothing on the host changes. Debian's mirror is that of the machine's apt.
# The root is kept in BUILD_FOLDER and used again.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-build/jvm-arm64}
[ $# -gt 0 ] && shift
mkdir -p "$out"
root=$PWD/$out/root
source android_bridge/jvm.sh

make_root() {
  [ -e "$out/root.made" ] && return
  local sources=$out/sources.list
  apt-get indextargets --format 'deb $(REPO_URI) bookworm main' 'Created-By: Packages' 'Origin: Debian' 'Label: Debian' |
    sort -u >"$sources"
  [ -s "$sources" ] || { echo "no Debian mirror in apt's configuration: run apt-get update" >&2; return 69; }
  rm -rf "$root"
  mmdebstrap --quiet --variant=extract --architectures=arm64 --skip=check/qemu \
    --include=openjdk-17-jre-headless,coreutils bookworm "$root" - <"$sources"
  touch "$out/root.made"
}

inside() { # a command in the root, this checkout and JUnit's jars at the same paths as outside
  unshare --user --map-root-user --mount --pid --fork bash -euc '
    root=$1 here=$2
    shift 2
    mount -t binfmt_misc none /proc/sys/fs/binfmt_misc
    sed "s#/usr/libexec/qemu-binfmt/[^:]*#/usr/bin/qemu-aarch64-static#; s#:[A-Z]*\$#:OCF#" /usr/lib/binfmt.d/qemu-aarch64.conf \
      >/proc/sys/fs/binfmt_misc/register
    mkdir -p "$root/proc" "$root/dev" "$root/tmp" "$root/usr/share/java" "$root$here"
    mount --rbind /dev "$root/dev"
    mount -t proc proc "$root/proc"
    mount --rbind /usr/share/java "$root/usr/share/java"
    mount --rbind "$here" "$root$here"
    exec chroot "$root" /usr/bin/env -i -C "$here" HOME=/tmp PATH=/usr/bin:/bin LANG=C.UTF-8 "$@"
  ' _ "$root" "$PWD" "$@"
}

make_root
build_native "$out/native" -DCMAKE_TOOLCHAIN_FILE="$PWD/tests/cpp/toolchain-aarch64.cmake" -DJAVA_HOME="$JAVA_HOME" \
  -DCMAKE_SHARED_LINKER_FLAGS=-s
build_java "$out"
# a kill test starts a Java for each kill, a damaged file is hashed by interpreted Java: both take seconds here
TMPDIR=/tmp with_fleet "$out" run_tests "$out" inside /usr/lib/jvm/java-17-openjdk-arm64/bin/java -Xint -XX:+UseSerialGC \
  -Dfedagg.kills=2 -Dfedagg.trials=40 -Dfedagg.isa=neon "$@"
