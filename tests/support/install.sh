#!/bin/bash
# install.sh demo|test: what building and running (demo) and also checking (test) this tree needs, on Debian, as root.
# Installs only what is missing, starts no service, downloads nothing if all is there. The tests' system users are made too.
set -euo pipefail

demo=(dovecot-core dovecot-imapd dovecot-pop3d dovecot-lmtpd dovecot-sieve dovecot-managesieved dovecot-dev
  librdkafka-dev libboost-dev libssl-dev libexpat1-dev liblmdb-dev zlib1g-dev cmake ninja-build g++ pkg-config
  python3 python3-venv default-jre-headless maven)
test=(libgtest-dev clang clang-format clang-tidy libclang-rt-14-dev python3-botocore faketime radosgw ceph-mon ceph-osd ceph-common)

case ${1-} in
  demo) wanted=("${demo[@]}") ;;
  test) wanted=("${demo[@]}" "${test[@]}") ;;
  *) echo "usage: install.sh demo|test" >&2; exit 2 ;;
esac
[ "$(id -u)" = 0 ] || { echo "install.sh: must be root, it installs packages" >&2; exit 1; }
command -v apt-get >/dev/null || { echo "install.sh: this needs Debian's apt-get; install by hand: ${wanted[*]}" >&2; exit 1; }

missing_packages() {
  local package
  for package in "${wanted[@]}"; do
    dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || echo "$package"
  done
}

# One apt at a time: two at once break each other's downloads, and apt's own lock does not cover its update.
exec 9>/run/lock/dovecot-active-replica.apt
flock 9
mapfile -t missing < <(missing_packages)
if [ ${#missing[@]} -gt 0 ]; then
  policy=/usr/sbin/policy-rc.d
  if [ ! -e $policy ]; then # no service starts by itself while we install; ours only, so it goes again
    trap 'rm -f /usr/sbin/policy-rc.d' EXIT
    printf '#!/bin/sh\nexit 101\n' >$policy
    chmod 755 $policy
  fi
  export DEBIAN_FRONTEND=noninteractive
  apt-get -q -o DPkg::Lock::Timeout=300 update
  apt-get -q -y -o DPkg::Lock::Timeout=300 -o Dpkg::Options::=--force-confold install --no-install-recommends "${missing[@]}"
fi
for user in vmail dovecot-replica; do
  id "$user" >/dev/null 2>&1 ||
    useradd --system --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin "$user"
done
