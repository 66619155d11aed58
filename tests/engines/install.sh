#!/bin/bash
# Install the Debian packages that `make test-engines`, `make test-newest` and `make test-history`
# need, as root. Every package is named; what is installed already is left as it is.
# The packages' own services are not started: the tests start what they need by themselves.
set -euo pipefail

packages=(
    debootstrap
    galera-4
    haproxy
    libmariadb-dev
    mariadb-server
    pgbouncer
    pkg-config
    postgresql
    rsync
)

missing=()
for package in "${packages[@]}"; do
    dpkg-query --show --showformat='${db:Status-Status}\n' "$package" 2>/dev/null |
        grep --quiet --line-regexp installed || missing+=("$package")
done
if [ "${#missing[@]}" -eq 0 ]; then
    exit
fi

# Debian's way to install a service without starting it.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
    trap 'rm -f "$policy"' EXIT
fi
apt-get update --quiet --quiet
DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet --quiet \
    --no-install-recommends "${missing[@]}" >/dev/null
