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

# scalar code that the compiler does not turn into NEON by itself, as it does the shipped SGD loop
cmake -S "$root" -B "$build/aarch64-plain" -DCMAKE_BUILD_TYPE=Release -DFEDAGG_TESTS=ON -DCMAKE_CXX_FLAGS=-fno-tree-vectorize \
    -DCMAKE_TOOLCHAIN_FILE="$here/toolchain-aarch64.cmake" >/dev/null
cmake --build "$build/aarch64-plain" --target fedagg_repeat --parallel 2

cc -O2 -shared -fPIC "$here/count_instructions.c" -o "$build/count.so"
count() { # BUILD KERNEL ISA ROWS CLASSES TIMES
    tests=$build/$1/tests/cpp
    shift
    qemu-aarch64 -plugin "$build/count.so" -d plugin -L /usr/aarch64-linux-gnu "$tests/fedagg_repeat" "$@" 2>&1 | sed -n 's/^instructions //p'
}
of_one() { # BUILD KERNEL ISA ROWS CLASSES: what one call takes
    echo $((($(count "$@" 3) - $(count "$@" 1)) / 2))
}
status=0
for kernel in loss softmax-mean int8 sgd; do
    for classes in 10 100; do
        neon=$(of_one aarch64 $kernel neon 256 $classes)
        scalar=$(of_one aarch64 $kernel scalar 256 $classes)
        note=''
        if [ $kernel = sgd ]; then # docs/kernels.md, "Speed"
            note=" (that GCC vectorises by itself: $scalar, $((100 * neon / scalar)) %)"
            scalar=$(of_one aarch64-plain $kernel scalar 256 $classes)
        fi
        echo "$kernel 256x$classes: NEON $neon instructions, scalar $scalar, $((100 * neon / scalar)) %$note"
        if [ $((neon * 3)) -gt "$scalar" ]; then
            echo "  more than a third of the scalar count"
            status=1
        fi
    done
done
exit $status
