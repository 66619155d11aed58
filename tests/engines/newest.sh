#!/bin/bash
# Run the suite on the newest Pythons and servers, from Debian's unstable, as root on Debian:
#
#     tests/engines/newest.sh [--quick] [PART ...]
#
# The parts are python3.14, python3.15, postgresql, mysql and mariadb; all of them by default.
# --quick: only those tests that a Python or a database can decide.
#
# Makes two roots with debootstrap, from the mirror of the machine's own apt sources. They are in
# the folder NEWEST_ROOTS, if it is set, and kept for the next time; otherwise in a temporary one.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

PARTS=(python3.14 python3.15 postgresql mysql mariadb)
PYTHONS=(python3.14 python3.15)
# What the databases are tried with.
PYTHON=python3.14
SUITE=(tests --ignore tests/services --ignore tests/browser --ignore tests/hosts)
# The tests, wherever they are, that a Python or a database can decide.
QUICK_NAMES='admin_actions|authentication|fields|filters|import_actor_runs|models|pagination|parameters'
QUICK_NAMES+='|prune_actor_runs|querysets|races|schemas|statements|throttling|validators|views'
mapfile -t QUICK < <(git ls-files tests | grep --extended-regexp "/test_($QUICK_NAMES)\.py$")

quick=
chosen=()
for word in "$@"; do
    case $word in
        --quick) quick=1 ;;
        python3.1[45] | postgresql | mysql | mariadb) chosen+=("$word") ;;
        *)
            echo "Unknown: $word. The parts are ${PARTS[*]}." >&2
            exit 2
            ;;
    esac
done
[ "${#chosen[@]}" -gt 0 ] || chosen=("${PARTS[@]}")
for program in debootstrap setpriv; do
    if ! command -v "$program" >/dev/null; then
        echo "$program is not installed. Run tests/engines/install.sh." >&2
        exit 1
    fi
done
if [ "$(id -u)" -ne 0 ]; then
    echo "A root can be made by root alone." >&2
    exit 1
fi

roots=${NEWEST_ROOTS:-$(mktemp -d /tmp/eng_newest.XXXXXX)}
mkdir -p "$roots"
main=$roots/main     # the Pythons, PostgreSQL, MariaDB with its client library, and Valkey
second=$roots/second # MySQL, which cannot be installed beside MariaDB
servers=()

step() { printf '\n=== %s (%d s)\n' "$*" "$SECONDS"; }

leave_root() {
    for folder in dev proc; do
        if mountpoint --quiet "$1/$folder"; then umount --recursive --lazy "$1/$folder"; fi
    done
}

clean_up() {
    for pid in ${servers[@]+"${servers[@]}"}; do
        kill -TERM "$pid" 2>/dev/null || true
    done
    for pid in ${servers[@]+"${servers[@]}"}; do
        wait "$pid" 2>/dev/null || true
    done
    leave_root "$main"
    leave_root "$second"
    if [ -z "${NEWEST_ROOTS:-}" ]; then
        rm -rf --one-file-system "$roots"
    fi
}
trap clean_up EXIT

in_root() { # ROOT COMMAND ...: as root there, with Debian's own paths
    local root=$1
    shift
    chroot "$root" /usr/bin/env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        HOME=/root LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive "$@"
}

update_in() { # ROOT
    in_root "$1" apt-get update --quiet --quiet >>"$roots/log" 2>&1 || { tail -20 "$roots/log" >&2; return 1; }
}

install_in() { # ROOT PACKAGE ...
    local root=$1
    shift
    in_root "$root" apt-get install --yes --quiet --quiet --no-install-recommends "$@" \
        >>"$roots/log" 2>&1 || { tail -20 "$roots/log" >&2; return 1; }
}

enter_root() { # ROOT: what programs there need of this machine
    local root=$1
    mountpoint --quiet "$root/proc" || mount --types proc proc "$root/proc"
    mountpoint --quiet "$root/dev" || mount --rbind /dev "$root/dev"
    mount --make-rslave "$root/dev"
    cp /etc/resolv.conf /etc/hosts "$root/etc/"
    mkdir -p "$root/etc/ssl/certs" "$root/root/.config/pip"
    cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
    cp /etc/pip.conf "$root/etc/" 2>/dev/null || true
    cp "$HOME/.config/pip/pip.conf" "$root/root/.config/pip/" 2>/dev/null || true
    cp /etc/apt/apt.conf.d/*proxy* "$root/etc/apt/apt.conf.d/" 2>/dev/null || true
    # A mirror that lags behind serves a release file of unstable that has run out.
    echo 'Acquire::Check-Valid-Until "false";' >"$root/etc/apt/apt.conf.d/90newest"
    printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
    chmod +x "$root/usr/sbin/policy-rc.d"
}

# Below the ports that the kernel gives to outgoing connections.
free_port() {
    local port
    while :; do
        port=$((20000 + RANDOM % 12000))
        (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
    done
    echo "$port"
}

start() { # ROOT LOG COMMAND ...: a server, which ends with this script
    local root=$1 log=$2
    shift 2
    setpriv --pdeathsig TERM chroot "$root" "$@" >"$roots/$log.log" 2>&1 &
    servers+=("$!")
}

wait_for() { # NAME PORT
    for _ in $(seq 600); do
        (exec 3<>"/dev/tcp/127.0.0.1/$2") 2>/dev/null && return
        sleep 0.1
    done
    echo "$1 does not answer on port $2." >&2
    tail -20 "$roots/$1.log" >&2
    exit 1
}

wants() { # PART ...: whether one of them is chosen
    local part
    for part in "$@"; do
        [[ " ${chosen[*]} " != *" $part "* ]] || return 0
    done
    return 1
}

version_of() { # ROOT COMMAND ...: the first number with a dot that it prints
    in_root "$@" 2>&1 | grep --only-matching --extended-regexp '[0-9]+(\.[0-9]+)+' | head -1
}

run_suite() { # NAME PYTHON SETTINGS PROCESSES [VARIABLE=VALUE ...]
    local name=$1 python=$2 settings=$3 processes=$4
    shift 4
    local paths=("${SUITE[@]}")
    if [ -n "$quick" ]; then paths=("${QUICK[@]}"); fi
    # The demo's settings are its own: once is enough.
    if [ "$settings" = tests.settings_host ]; then paths+=(-m "not demo"); fi
    local log="$roots/${name//[^a-zA-Z0-9.]/-}-$settings.log" code=0
    in_root "$main" /usr/bin/env --chdir /src "$@" "TEST_DB_SUFFIX=-eng-newest" \
        "/venv/$python/bin/python" -m pytest --ds "$settings" --quiet --color no --tb short \
        -p no:cacheprovider --maxfail 200 --numprocesses "$processes" --dist loadfile \
        "${paths[@]}" \
        >"$log" 2>&1 || code=$?
    local line
    line=$(tail -1 "$log")
    printf '\n=== %s: %s (%d s)\n%s\n' "$name" "$settings" "$SECONDS" "$line"
    if [ "$code" -ne 0 ]; then
        touch "$roots/failed"
        grep --extended-regexp '^(FAILED|ERROR) ' "$log" | cut -c 1-300 | head -40 || tail -20 "$log"
    fi
    echo "| $name | $settings | $line |" >>"$roots/results"
}

step "make the roots"
: >"$roots/log"
: >"$roots/results"
rm -f "$roots/failed"
# Its own main archive, not the one of security updates.
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Label: Debian' | head -1)
if [ -z "$mirror" ]; then
    apt-get update --quiet --quiet
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Label: Debian' | head -1)
fi
if [ ! -e "$main/made" ]; then
    # What an earlier attempt left half-made.
    rm -rf --one-file-system "$main" "$second"
    debootstrap --variant=minbase --include=ca-certificates sid "$main" "$mirror" >>"$roots/log" 2>&1 ||
        { tail -20 "$roots/log" >&2; exit 1; }
    cp --archive "$main" "$second"
    touch "$main/made"
fi
enter_root "$main"
enter_root "$second"

step "install Python, and the servers"
packages=(make gcc libc6-dev curl git pkg-config libmariadb-dev valkey-server)
for python in "${PYTHONS[@]}"; do packages+=("$python" "$python-venv" "$python-dev"); done
if wants postgresql; then packages+=(postgresql-18); fi
if wants mariadb; then packages+=(mariadb-server); fi
update_in "$main"
install_in "$main" "${packages[@]}"
if wants mysql; then
    update_in "$second"
    install_in "$second" mysql-server
fi

step "install the suite"
rm -rf "$main/src"
mkdir -p "$main/src"
git ls-files --cached --others --exclude-standard -z |
    xargs --null --no-run-if-empty ls -d 2>/dev/null |
    tar --create --files-from - | tar --extract --directory "$main/src"
for python in "${PYTHONS[@]}"; do
    if ! wants "$python" && { [ "$python" != "$PYTHON" ] || ! wants postgresql mysql mariadb; }; then
        continue
    fi
    in_root "$main" "$python" -m venv "/venv/$python"
    # Style and types are for `make lint`.
    grep --invert-match --extended-regexp '^(mypy|ruff|django-stubs|djangorestframework-stubs|build|tox|twine)' \
        requirements.txt >"$main/src/requirements-newest.txt"
    in_root "$main" /usr/bin/env --chdir /src "/venv/$python/bin/python" -m pip install --quiet \
        --requirement requirements-newest.txt --requirement tests/services/requirements.txt
done

step "start the servers"
declare -A port version
for name in valkey postgresql mysql mariadb; do port[$name]=$(free_port); done
start "$main" valkey valkey-server --port "${port[valkey]}" --bind 127.0.0.1 --save "" --dir /tmp
wait_for valkey "${port[valkey]}"
version[valkey]=$(version_of "$main" valkey-server --version)
if wants postgresql; then
    bin=/usr/lib/postgresql/18/bin
    rm -rf "$main/srv/postgresql"
    install --directory --owner 0 --group 0 --mode 777 "$main/srv/postgresql"
    chroot --userspec=postgres:postgres "$main" "$bin/initdb" --auth=trust --no-sync \
        --encoding=UTF8 --locale=C --username=postgres -D /srv/postgresql/data >>"$roots/log" 2>&1
    start "$main" postgresql setpriv --reuid postgres --regid postgres --init-groups \
        --pdeathsig TERM "$bin/postgres" -D /srv/postgresql/data -p "${port[postgresql]}" -k /tmp \
        -c listen_addresses=127.0.0.1 -c fsync=off -c max_connections=200
    wait_for postgresql "${port[postgresql]}"
    version[postgresql]=$(version_of "$main" "$bin/postgres" --version)
fi
if wants mysql; then
    rm -rf "$second/srv/mysql"
    install --directory --mode 777 "$second/srv/mysql"
    in_root "$second" mysqld --no-defaults --initialize-insecure --user=mysql \
        --datadir=/srv/mysql/data >>"$roots/log" 2>&1
    start "$second" mysql mysqld --no-defaults --user=mysql --datadir=/srv/mysql/data \
        --port="${port[mysql]}" --bind-address=127.0.0.1 --mysqlx=OFF \
        --socket=/srv/mysql/socket --pid-file=/srv/mysql/pid --skip-log-bin \
        --innodb-flush-log-at-trx-commit=2 --max-connections=300
    wait_for mysql "${port[mysql]}"
    version[mysql]=$(version_of "$second" mysqld --version)
fi
if wants mariadb; then
    rm -rf "$main/srv/mariadb"
    install --directory --mode 777 "$main/srv/mariadb"
    in_root "$main" mariadb-install-db --no-defaults --user=mysql --skip-test-db \
        --auth-root-authentication-method=normal --datadir=/srv/mariadb/data >>"$roots/log" 2>&1
    start "$main" mariadb mariadbd --no-defaults --user=mysql --datadir=/srv/mariadb/data \
        --port="${port[mariadb]}" --bind-address=127.0.0.1 --socket=/srv/mariadb/socket \
        --pid-file=/srv/mariadb/pid --innodb-flush-log-at-trx-commit=2 --max-connections=300
    wait_for mariadb "${port[mariadb]}"
    version[mariadb]=$(version_of "$main" mariadbd --version)
fi

redis=redis://127.0.0.1:${port[valkey]}
for python in "${PYTHONS[@]}"; do
    wants "$python" || continue
    name="Python $(version_of "$main" "$python" --version)"
    name+=", Django $(version_of "$main" "/venv/$python/bin/python" -m django --version)"
    run_suite "$name, SQLite" "$python" tests.settings auto
    run_suite "$name, SQLite" "$python" tests.settings_host auto
done
# One process each, since a test that clears the cache clears it for all; the databases beside one another.
try_database() { # NAME SERVER URL NUMBER
    local name="$1 ${version[$2]}, Valkey ${version[valkey]}" settings
    for settings in tests.settings tests.settings_host; do
        run_suite "$name" "$PYTHON" "$settings" 0 "DATABASE_URL=$3" "REDIS_URL=$redis/$4"
    done
}
databases=()
if wants postgresql; then
    try_database PostgreSQL postgresql "postgres://postgres@127.0.0.1:${port[postgresql]}/eng_runs" 1 &
    databases+=("$!")
fi
if wants mysql; then
    try_database MySQL mysql "mysql://root@127.0.0.1:${port[mysql]}/eng_runs" 2 &
    databases+=("$!")
fi
if wants mariadb; then
    try_database MariaDB mariadb "mysql://root@127.0.0.1:${port[mariadb]}/eng_runs" 3 &
    databases+=("$!")
fi

for pid in ${databases[@]+"${databases[@]}"}; do wait "$pid"; done

printf '\n| on what | settings | tests |\n| --- | --- | --- |\n'
cat "$roots/results"
printf '%d s in all\n' "$SECONDS"
[ ! -e "$roots/failed" ]
