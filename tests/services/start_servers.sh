#!/bin/bash
# Install and start what `make test-services` needs, with Debian's own commands, as root.
# What answers already is left as it is. A fresh PostgreSQL lets nobody in from 127.0.0.1
# without a password: this one gives way to the tests, so use it on a machine of theirs alone.
set -euo pipefail

answers() {
    (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

wait_for() {
    for _ in $(seq 300); do
        answers "$2" && return
        sleep 0.1
    done
    echo "$1 did not start on port $2." >&2
    exit 1
}

missing=()
for package in postgresql mariadb-server redis-server memcached nginx libmariadb-dev pkg-config; do
    dpkg-query --show --showformat='${db:Status-Status}\n' "$package" 2>/dev/null |
        grep --quiet --line-regexp installed || missing+=("$package")
done
if [ "${#missing[@]}" -gt 0 ]; then
    apt-get update --quiet --quiet
    DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet --quiet "${missing[@]}" >/dev/null
fi

if ! answers 5432; then
    version=$(ls /etc/postgresql | sort --version-sort | tail -1)
    echo "host all all 127.0.0.1/32 trust" | cat - "/etc/postgresql/$version/main/pg_hba.conf" \
        >/tmp/pg_hba.conf
    cat /tmp/pg_hba.conf >"/etc/postgresql/$version/main/pg_hba.conf"
    pg_ctlcluster --skip-systemctl-redirect "$version" main start
    wait_for PostgreSQL 5432
fi
if ! answers 3306; then
    start-stop-daemon --start --oknodo --background --exec /usr/sbin/mariadbd
    wait_for MariaDB 3306
    mariadb --execute "ALTER USER root@localhost IDENTIFIED BY ''"
fi
if ! answers 6379; then
    redis-server --daemonize yes --bind 127.0.0.1 --save "" --dir /tmp
    wait_for Redis 6379
fi
if ! answers 11211; then
    memcached -d -u nobody -l 127.0.0.1 -p 11211
    wait_for memcached 11211
fi
