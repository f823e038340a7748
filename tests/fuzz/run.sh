#!/bin/sh
# Runs every fuzzer for SECONDS, seeded with the golden vectors; ends with 1 if one of them found something.
#   tests/fuzz/run.sh SECONDS [BUILD_DIR]      (clang++, cmake and ninja are there; BUILD_DIR: build/fuzz)
set -eu
seconds=${1:?usage: tests/fuzz/run.sh SECONDS [BUILD_DIR]}
tree=$(cd "$(dirname "$0")/../.." && pwd)
build=${2:-$tree/build/fuzz}
jobs=$(nproc)

mkdir -p "$build"
cmake -S "$tree" -B "$build" -G Ninja -DREPLICA_FUZZERS=ON -DCMAKE_CXX_COMPILER=clang++ >"$build/build.log" 2>&1 ||
    { cat "$build/build.log" >&2; exit 1; }
ninja -C "$build" -j "$jobs" fuzzers >"$build/build.log" 2>&1 || { tail -n 40 "$build/build.log" >&2; exit 1; }

seeds=$build/seeds
rm -rf "$seeds" "$build/found"
mkdir -p "$build/found"
# Every fuzzer is given every vector: what it does not know it must refuse.
for fuzzer in "$build"/tests/fuzz/fuzz_*; do
    [ -x "$fuzzer" ] && [ -f "$fuzzer" ] || continue
    corpus=$seeds/$(basename "$fuzzer")
    mkdir -p "$corpus"
    for vector in "$tree"/tests/golden/vectors/*.hex; do
        perl -ne 'chomp; print pack("H*", $_)' "$vector" >"$corpus/$(basename "$vector" .hex)"
    done
    cp "$tree/tests/golden/vectors/key-file.txt" "$corpus"
    sed -n 's/^  #\([a-z_]* =.*\)/\1/p' "$tree/conf.d/90-replica.conf" >"$corpus/settings"
    echo "$fuzzer"
done >"$build/fuzzers.txt"

one='
name=$(basename "$1")
if "$1" -max_total_time="$2" -max_len=4096 -rss_limit_mb=1024 -timeout=10 -print_final_stats=1 \
    -artifact_prefix="$3/found/$name-" "$3/seeds/$name" >"$3/$name.log" 2>&1; then
    echo "ok     $name: $(sed -n "s/^stat::number_of_executed_units: *//p" "$3/$name.log") inputs"
else
    echo "FAILED $name: see $3/$name.log"
    tail -n 25 "$3/$name.log" >&2
    exit 1
fi'
if xargs -P "$jobs" -I '{}' sh -c "$one" sh '{}' "$seconds" "$build" <"$build/fuzzers.txt"; then
    echo "fuzz: $(wc -l <"$build/fuzzers.txt") fuzzers, $seconds s each, nothing found"
else
    echo "fuzz: something was found; inputs are in $build/found" >&2
    exit 1
fi
