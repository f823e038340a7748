#!/bin/bash
# ./test.sh                 everything: packages, then each STAGE below but tidy
# ./test.sh STAGE           packages, then this one:
#   unit                    build, unit and golden tests
#   format                  clang-format would change nothing
#   dovecot24               all that includes Dovecot's headers compiles against Dovecot 2.4's
#   sanitized               unit and golden tests with the address and undefined-behaviour sanitizers
#   fuzz                    every fuzzer, FUZZ_SECONDS each (10)
#   live [NAME...]          build, install the modules into this machine's Dovecot, live tests: all, or those named as in
#                           tests/live/NAME_test.py; LIVE_JOBS at once (1)
#   tidy [FILE...]          clang-tidy, of all of lib and agentd or of the files named
# As root, on Debian 12, from nothing but a checkout. Ends with one line that counts, and with 1 if anything failed.
# The machine's Dovecot configuration is not read; its own Dovecot, if one runs, is left alone.
set -uo pipefail
cd "$(dirname "$0")"
logs=build/logs
jobs=$(nproc)
fuzz_seconds=${FUZZ_SECONDS:-10}
passed=0 failed=0
mkdir -p "$logs"
launcher=()
! command -v ccache >/dev/null || launcher=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache)
# A process id namespace where one can be had: then nothing that a test starts outlives the run, however it ends.
contained=()
! unshare --pid --fork --kill-child --mount-proc true 2>/dev/null ||
  contained=(unshare --pid --fork --kill-child --mount-proc bash -c '"$@"; exit' --)

# step NAME COMMAND...: one check of its own, its output in a log, the log's end shown if it failed.
step() {
  local name=$1 log started=$SECONDS
  shift
  log=$logs/${name//[^a-z0-9.]/-}.log
  printf '%-44s' "$name"
  if "$@" >"$log" 2>&1 </dev/null; then
    passed=$((passed + 1))
    printf 'ok      %4d s\n' $((SECONDS - started))
  else
    failed=$((failed + 1))
    printf 'FAILED  %4d s  (%s)\n' $((SECONDS - started)) "$log"
    tail -n 60 "$log" | sed 's/^/    /'
    return 1
  fi
}

# tests NAME BUILD CTEST-OPTIONS...: each of its tests counts. Real processes on a machine that others load, too: a test that fails
# runs once more, and is named.
tests() {
  local name=$1 build=$2 log junit started=$SECONDS good bad
  shift 2
  log=$PWD/$logs/$name.log junit=$PWD/$logs/$name.xml
  rm -f "$junit"
  printf '%-44s' "$name"
  "${contained[@]}" ctest --test-dir "$build" --output-on-failure --no-tests=error --repeat until-pass:2 --output-junit "$junit" "$@" >"$log" 2>&1 </dev/null
  read -r good bad < <(python3 - "$junit" <<'COUNT' 2>>"$log" || echo "0 1"
import sys, xml.etree.ElementTree
cases = xml.etree.ElementTree.parse(sys.argv[1]).getroot().findall("testcase")
bad = sum(case.get("status") != "run" for case in cases)
print(len(cases) - bad, bad or int(not cases))
COUNT
  )
  passed=$((passed + good)) failed=$((failed + bad))
  printf '%-7s %4d s  %d passed, %d failed\n' "$([ "$bad" = 0 ] && echo ok || echo FAILED)" $((SECONDS - started)) "$good" "$bad"
  sed -n 's/^ *[0-9/]* Test *#[0-9]*: \([^ ]*\) .*\*\*\*\([A-Za-z]*\).*/    a run of \1: \L\2/p' "$log"
  [ "$bad" = 0 ] || { grep -E -A60 '^ *[0-9]+: |\*\*\*' "$log" | tail -n 120 | sed 's/^/    /'; return 1; }
}

finish() {
  echo
  echo "$passed passed, $failed failed"
  [ "$failed" = 0 ] && [ "$passed" -gt 0 ]
  exit
}

compile() {
  cmake --preset release -DREPLICA_DEVELOPER=ON -DREPLICA_TESTS=ON "${launcher[@]}" && nice cmake --build --preset release -j "$jobs"
}
built=
build() { [ -n "$built" ] || { step "build" compile && built=yes; }; }
unit() { build && tests unit build/release -LE live -j "$jobs"; }

sources() { find lib plugin agentd doveadm-cmds tests -name '*.cpp' -o -name '*.hpp' | sort; }
formatted() { sources | xargs clang-format --dry-run -Werror; }
format() { step "formatting" formatted; }

compile_against_24() {
  local root
  root=$(tests/support/dovecot24-headers.sh) || return 1
  cmake -S . -B build/dovecot-2.4 -G Ninja -DREPLICA_DEVELOPER=ON -DREPLICA_TESTS=OFF -DREPLICA_DOVECOT_HEADERS_ONLY=ON \
    -DDOVECOT_CONFIG="$root/usr/lib/dovecot/dovecot-config" -DDOVECOT_INCLUDE_DIR="$root/usr/include/dovecot" "${launcher[@]}" &&
    nice cmake --build build/dovecot-2.4 -j "$jobs"
}
dovecot24() { step "build against Dovecot 2.4's headers" compile_against_24; }

compile_sanitized() {
  cmake --preset asan-ubsan "${launcher[@]}" && nice cmake --build --preset asan-ubsan -j "$jobs" --target unit-tests
}
sanitized() { step "build with sanitizers" compile_sanitized && tests sanitized build/asan-ubsan -LE live -j "$jobs"; }

fuzz() { step "fuzz" tests/fuzz/run.sh "$fuzz_seconds"; }

live() {
  build || return
  step "install into this machine's Dovecot" cmake --install build/release --component programs || return
  step "S3 server, built once" env PYTHONPATH=tests python3 -m support.s3 || return
  local names
  names=$(IFS='|'; echo "$*")
  tests live build/release -L live -j "${LIVE_JOBS:-1}" ${names:+-R "^live\.($names)\$"}
}

checked() {
  [ $# -gt 0 ] || set -- $(find lib agentd -name '*.cpp')
  printf '%s\n' "$@" | nice xargs -n 1 -P "$jobs" clang-tidy -p build/release --quiet
}
tidy() { build && step "clang-tidy" checked "$@"; }

all() {
  unit
  format
  dovecot24
  sanitized
  fuzz
  live
}

stage=${1-all}
[ $# = 0 ] || shift
case $stage in
  all | unit | format | dovecot24 | sanitized | fuzz | live | tidy) ;;
  *) sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0" >&2; exit 2 ;;
esac
step "packages" tests/support/install.sh test || finish
"$stage" "$@"
finish
