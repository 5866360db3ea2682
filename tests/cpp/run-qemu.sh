#!/bin/sh
# Cross-builds the C++ tests for AArch64 and 32-bit ARM, runs them under qemu-user, and compares the instructions that
# NEON and scalar kernels take. Debian: g++-aarch64-linux-gnu g++-arm-linux-gnueabihf qemu-user (not -static: no plugins).
# usage: tests/cpp/run-qemu.sh [BUILD_FOLDER]
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
build=${1:-$root/build/qemu}

for target in aarch64 armv7; do
    cmake -S "$root" -B "$build/$target" -DCMAKE_BUILD_TYPE=Release -DFEDAGG_TESTS=ON \
        -DCMAKE_TOOLCHAIN_FILE="$here/toolchain-$target.cmake" >/dev/null
    cmake --build "$build/$target" --parallel 2
    ctest --test-dir "$build/$target" --output-on-failure
done

cc -O2 -shared -fPIC "$here/count_instructions.c" -o "$build/count.so"
count() { # ISA ROWS CLASSES TIMES
    qemu-aarch64 -plugin "$build/count.so" -d plugin -L /usr/aarch64-linux-gnu \
        "$build/aarch64/tests/cpp/fedagg_repeat" "$@" 2>&1 | sed -n 's/^instructions //p'
}
status=0
for classes in 10 100; do
    neon=$(($(count neon 256 $classes 3) - $(count neon 256 $classes 1)))
    scalar=$(($(count scalar 256 $classes 3) - $(count scalar 256 $classes 1)))
    echo "loss+gradient 256x$classes: NEON $((neon / 2)) instructions, scalar $((scalar / 2))"
    if [ $((neon * 3)) -gt "$scalar" ]; then
        echo "  more than a third of the scalar count"
        status=1
    fi
done
exit $status
