#!/bin/bash
# dovecot24-headers.sh: prints the root folder of Debian 13's dovecot-dev, unpacked into the cache, fetched if it is not there.
# The machine's own package state is not touched: this apt has folders of its own, and the mirror that the machine uses.
set -euo pipefail
cache=${XDG_CACHE_HOME:-$HOME/.cache}/dovecot-active-replica
root=$cache/dovecot-2.4
if [ ! -d "$root" ]; then
  mkdir -p "$cache"
  work=$(mktemp -d "$cache/headers.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  fields='$(CREATED_BY)|$(COMPONENT)|$(CODENAME)|$(REPO_URI)'
  mirror=$(apt-get indextargets --format "$fields" | awk -F'|' '$1=="Packages" && $2=="main" && $3!~/-/ {print $4; exit}')
  [ -n "$mirror" ] || { echo "dovecot24-headers: apt knows no Debian mirror here" >&2; exit 1; }
  mkdir -p "$work"/{lists/partial,cache/archives/partial,debs}
  : >"$work/status"
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror trixie main" >"$work/sources.list"
  apt=(apt-get -q -o Dir::Etc::sourcelist="$work/sources.list" -o Dir::Etc::sourceparts=/dev/null
    -o Dir::State::lists="$work/lists" -o Dir::State::status="$work/status" -o Dir::Cache="$work/cache"
    -o APT::Sandbox::User=root -o Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled=false)
  "${apt[@]}" update >&2
  (cd "$work/debs" && "${apt[@]}" download dovecot-dev dovecot-core >&2)
  for package in "$work"/debs/*.deb; do dpkg -x "$package" "$work/root"; done
  mv "$work/root" "$root"
fi
echo "$root"
