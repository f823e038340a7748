#!/bin/bash
# ./demo.sh [--s3] [--keep] [--accounts N]
# Active Replica for Dovecot, shown on real Dovecot, real Kafka and real mail: installs what is missing (Debian 12, as root), builds,
# makes two mailstores, kills one in mid-load, promotes the other, and compares what was acknowledged with what is there.
# Ends with 0 only if nothing is missing. --keep leaves it running and says how to connect. --s3: bodies live in an S3 server,
# versitygw, which is built the first time (two minutes). Can be run again.
# The modules go into this machine's Dovecot; its configuration is neither read nor used.
set -euo pipefail
cd "$(dirname "$0")"
log=build/logs/demo.log
s3=
case " $* " in *" --s3 "*) s3=yes ;; esac
case " $* " in *" -h "* | *" --help "*) sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0"; exit 0 ;; esac
mkdir -p build/logs

if [ -t 1 ]; then cyan=$'\033[1;36m' bold=$'\033[1m' green=$'\033[32m' dim=$'\033[2m' plain=$'\033[0m'; else cyan= bold= green= dim= plain=; fi
step() {
  local title=$1 started=$SECONDS
  shift
  printf '\n%s %s\n' "$cyan[$1/10]$plain" "$bold$title$plain"
  shift
  if ! "$@" >"$log" 2>&1 </dev/null; then
    tail -n 30 "$log"
    printf '   NO %s failed; all of it is in %s\n' "$1" "$log"
    exit 1
  fi
  printf '   %sok%s %s(%d s)%s\n' "$green" "$plain" "$dim" $((SECONDS - started)) "$plain"
}
build() {
  cmake --preset release -DREPLICA_TESTS=OFF
  cmake --build --preset release -j "$(nproc)"
  cmake --install build/release --component programs
  if [ -n "$s3" ]; then PYTHONPATH=tests python3 -m support.s3; fi
}

printf '\n%sActive Replica for Dovecot%s: two mailstores, a sealed log in Kafka, a promotion that loses nothing\n' "$bold" "$plain"
step "Packages that this machine lacks" 1 tests/support/install.sh demo
step "Build, and install the modules into Dovecot" 2 build
export PYTHONDONTWRITEBYTECODE=1
exec python3 tests/support/demo.py "$@"
