#!/usr/bin/env bash
# Builds the JNI library, the Java core and its tests with what Debian has (a JDK, junit5, CMake, a C++ compiler), and
# runs the tests. No Gradle, no network. With the package installed for Python (PYTHON, .venv's by default) a real fleet
# is started beside them; without, or with NO_FLEET=1, that test is skipped and said so. A fleet waits minutes for its devices:
# set NO_FLEET where JUnit's options leave FleetTest out.
# REQUIRE_FLEET=1, REQUIRE_LITERT=1, REQUIRE_EXECUTORCH=1, REQUIRE_KOTLIN=1, REQUIRE_GROOVY=1: then what those tests need must be there.
# usage: android_bridge/test.sh [BUILD_FOLDER] [JUnit console options, as --include-classname='.*Distill.*']
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-build/jvm}
[ $# -gt 0 ] && shift
mkdir -p "$out"
source android_bridge/jvm.sh

find_runtimes
build_native "$out/native" -DJAVA_HOME="$JAVA_HOME"
build_java "$out"
check_kotlin "$out"
check_gradle
with_fleet "$out" run_tests "$out" java "$@"
