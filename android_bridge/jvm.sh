# Functions for test.sh and test-arm64.sh, which source this file in the repository's root.
CMAKE=${CMAKE:-cmake}
JAVA_HOME=${JAVA_HOME:-$(dirname "$(dirname "$(readlink -f "$(command -v javac)")")")}
export JAVA_HOME

junit() { # the class path of JUnit 5 as Debian's package junit5 lays it out
  local jars=() name
  for name in junit-jupiter-api junit-jupiter-engine junit-jupiter-params junit-platform-commons junit-platform-engine \
    junit-platform-launcher junit-platform-console junit-platform-reporting opentest4j opentest4j-reporting-events \
    opentest4j-reporting-schema open-test-reporting-events open-test-reporting-schema apiguardian-api univocity-parsers \
    picocli; do
    [ -e "/usr/share/java/$name.jar" ] && jars+=("/usr/share/java/$name.jar")
  done
  (IFS=: && echo "${jars[*]}")
}

build_native() { # folder, CMake options
  local folder=$1
  shift
  "$CMAKE" -S . -B "$folder" -DCMAKE_BUILD_TYPE=Release -DFEDAGG_JNI=ON "$@" >"$folder.log" 2>&1 || { cat "$folder.log"; return 1; }
  "$CMAKE" --build "$folder" --target fedagg_jni --parallel "${JOBS:-2}" >>"$folder.log" 2>&1 || { cat "$folder.log"; return 1; }
}

build_java() { # folder: classes/, tflite/, executorch/, android/, their shapes and tests/ below it
  rm -rf "$1"/{classes,tflite,tflite-shape,executorch,executorch-shape,android,android-shape,tests}
  # -options: javac would warn that Java 8 is old; Android's libraries are still made for it
  javac --release 8 -Xlint:all,-options -Werror -d "$1/classes" $(find android_bridge/core/src/main/java -name '*.java')
  # TensorFlow Lite's and ExecuTorch's jars are an application's to bring: here the adapters see their written shapes, with
  # the tests alone
  local engine
  for engine in tflite executorch; do
    javac --release 8 -Xlint:all,-options -Werror -d "$1/$engine-shape" \
      $(find android_bridge/$engine/src/test/java/org -name '*.java')
    javac --release 8 -Xlint:all,-options -Werror -cp "$1/classes:$1/$engine-shape" -d "$1/$engine" \
      $(find android_bridge/$engine/src/main/java -name '*.java')
  done
  # so do the classes of the Gradle module, for Android's and androidx's
  javac --release 8 -Xlint:all,-options -Werror -d "$1/android-shape" $(find android_bridge/android/checks/shape -name '*.java')
  javac --release 8 -Xlint:all,-options,-try -Werror -cp "$1/classes:$1/tflite:$1/tflite-shape:$1/android-shape" \
    -d "$1/android" $(find android_bridge/android/{bridge,sample}/src/main/java -name '*.java')
  javac --release 11 -Xlint:all,-path,-try -Werror \
    -cp "$(made "$1"):$(junit)" -d "$1/tests" \
    $(find android_bridge/core/src/test/java android_bridge/{tflite,executorch}/src/test/java/fedagg \
      android_bridge/android/checks/test -name '*.java')
}

# What an application in Kotlin calls is compiled, not run, where there is a compiler: KOTLINC, or kotlinc on the path.
check_kotlin() { # folder
  local kotlinc=${KOTLINC:-$(command -v kotlinc || :)}
  [ -n "$kotlinc" ] || { lacking "${REQUIRE_KOTLIN:-}" "no Kotlin (KOTLINC, or kotlinc on the path): kotlin/Phone.kt is not compiled"; return; }
  "$kotlinc" -Werror -jvm-target 1.8 -cp "$1/classes" -d "$1/kotlin" android_bridge/kotlin/*.kt
}

check_gradle() { # Debian's groovy has the parser
  local groovy=${GROOVY_JAR:-/usr/share/java/groovy-all.jar} files
  [ -e "$groovy" ] || { lacking "${REQUIRE_GROOVY:-}" "no Groovy (GROOVY_JAR, or Debian's groovy): Gradle's files are not parsed"; return; }
  mapfile -t files < <(find android_bridge -name '*.gradle')
  "$JAVA_HOME/bin/java" -cp "$groovy" android_bridge/android/checks/gradle/ParseGradle.java "${files[@]}"
}

made() { # folder: the class path of what build_java made, but for the tests
  echo "$1/classes:$1/tflite:$1/tflite-shape:$1/executorch:$1/executorch-shape:$1/android:$1/android-shape"
}

keystore() { # folder: the key of a TLS server on loopback, for tests of the transport
  [ -e "$1/server.p12" ] || "$JAVA_HOME/bin/keytool" -genkeypair -alias server -keyalg EC -groupname secp256r1 -validity 3650 \
    -dname CN=127.0.0.1 -ext san=ip:127.0.0.1 -storetype PKCS12 -keystore "$1/server.p12" -storepass fedagg
}

# -Xcheck:jni only tells of misuse: one word of it fails the run
run_tests() { # folder, java and its options up to --, then JUnit's
  local folder=$1 log=$1/junit.log status=0
  shift
  local java=()
  while [ $# -gt 0 ] && [[ $1 != --* ]]; do
    java+=("$1")
    shift
  done
  keystore "$folder"
  "${java[@]}" -Xcheck:jni -Dfile.encoding=UTF-8 -Dfedagg.jni="$PWD/$folder/native/android_bridge/jni/libfedagg_jni.so" \
    -Dfedagg.root="$PWD" -Dfedagg.keystore="$PWD/$folder/server.p12" ${FLEET:+-Dfedagg.fleet="$FLEET"} \
    ${LITERT:+-Dfedagg.litert="$LITERT"} ${EXECUTORCH:+-Dfedagg.executorch="$EXECUTORCH"} -Djava.io.tmpdir="${TMPDIR:-/tmp}" \
    -cp "$(made "$folder"):$folder/tests:$(junit)" org.junit.platform.console.ConsoleLauncher \
    --scan-classpath "$folder/tests" --disable-banner --details=summary --fail-if-no-tests \
    --config='junit.jupiter.testclass.order.default=org.junit.jupiter.api.ClassOrderer$OrderAnnotation' "$@" >"$log" 2>&1 || status=$?
  cat "$log"
  if grep -E "WARNING in native method|WARNING: JNI|FATAL ERROR in native method" "$log"; then
    echo "-Xcheck:jni has found misuse of JNI"
    return 1
  fi
  return "$status"
}

# Says what is skipped for want of something; a failure where it was required: a test that is never run shows nothing.
lacking() { # required, what to say
  echo "$2"
  [ -z "$1" ] || { echo "and it is required here: install it, or unset the REQUIRE_ that says so" >&2; return 1; }
}

# Where a device's runtimes are that tests drive in a process: the interpreters of Python that have them, if any.
find_runtimes() {
  LITERT=${PYTHON:-.venv/bin/python} EXECUTORCH=${FEDAGG_EXECUTORCH_PYTHON:-.venv-executorch/bin/python}
  "$LITERT" -c 'import fedagg_edge, ai_edge_litert' 2>/dev/null || LITERT=
  "$EXECUTORCH" -c 'import fedagg_edge, executorch' 2>/dev/null || EXECUTORCH=
  [ -n "$LITERT" ] || lacking "${REQUIRE_LITERT:-}" "no TFLite: ${PYTHON:-.venv/bin/python} has not the package with [litert]; TfliteRuntimeTest is skipped"
  [ -n "$EXECUTORCH" ] || lacking "${REQUIRE_EXECUTORCH:-}" "no ExecuTorch (make test-executorch installs it): ExecutorchRuntimeTest is skipped"
}

# Runs a command while tests/jvm/fleet.py is up; FLEET is then where it says what it is. Both must succeed.
with_fleet() { # folder, command
  local folder=$1/fleet status=0 fleet
  shift
  PYTHON=${PYTHON:-.venv/bin/python}
  if [ -n "${NO_FLEET:-}" ] || ! "$PYTHON" -c 'import fedagg_edge, torch, httptools, sklearn' 2>/dev/null; then
    lacking "${REQUIRE_FLEET:-}" "no fleet: NO_FLEET is set, or $PYTHON has not the package with [sim,fleet]; FleetTest is skipped" || return
    "$@"
    return
  fi
  rm -rf "$folder"
  "$PYTHON" tests/jvm/fleet.py "$folder" ${LITERT:+--sample} >"$folder.log" 2>&1 &
  fleet=$!
  trap "kill $fleet 2>/dev/null || :" EXIT
  until [ -e "$folder/fleet.properties" ]; do
    kill -0 $fleet 2>/dev/null || { cat "$folder.log"; return 1; }
    sleep 0.2
  done
  FLEET=$PWD/$folder/fleet.properties "$@" || { status=$?; kill $fleet 2>/dev/null || :; }
  wait $fleet || { [ $status -ne 0 ] || status=1; }
  trap - EXIT
  cat "$folder.log"
  return $status
}
