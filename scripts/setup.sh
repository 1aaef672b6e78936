#!/usr/bin/env bash
# Installs what building, testing or measuring needs and is not there yet. Debian and Ubuntu; elsewhere it names what is missing.
#
#   scripts/setup.sh build    a C and a C++ compiler, CMake, OpenSSL's headers and libraries
#   scripts/setup.sh test     PostgreSQL's server programs, mosquitto, kcat, ip, libmodbus, mbpoll, Node.js, and what others wrote
#                             in Python and for Node.js, in folders of their own
#   scripts/setup.sh bench    libmodbus
#
# Runs again at any time and is quick when nothing is missing. What `test` and `bench` cannot install is named and left
# out: the tests that need it then say `not run`.
set -euo pipefail
cd "$(dirname "$0")/.."

cache=${XDG_CACHE_HOME:-$HOME/.cache}/streamforge

say() { printf 'setup: %s\n' "$*"; }
have() { command -v "$1" >/dev/null 2>&1; }

# Installs packages; fails when it may not or cannot.
install_packages() {
    if ! have apt-get; then
        say "cannot install $* here: there is no apt-get; install the like of them by hand"
        return 1
    fi
    local as_root=()
    if [ "$(id -u)" != 0 ]; then
        if ! have sudo; then
            say "cannot install $*: neither root nor sudo; ask for:  apt-get install $*"
            return 1
        fi
        as_root=(sudo)
    fi
    say "installing $*"
    local log
    log=$(mktemp)
    # shellcheck disable=SC2024  # the log is ours, not root's
    if { "${as_root[@]}" apt-get update &&
        "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends "$@"; } >"$log" 2>&1; then
        rm -f "$log"
    else
        tail -n 5 "$log"
        say "apt-get could not install $*; its whole output is in $log"
        return 1
    fi
}

# Compiles a small program of a language: finds a compiler without headers, too.
compiles() {
    printf '#include <%s>\nint main() { return 0; }\n' "$2" | "$1" -x "$3" -fsyntax-only - >/dev/null 2>&1
}

setup_build() {
    if ! have cargo; then
        say "there is no cargo: install Rust from https://rustup.rs and try again; rust-toolchain.toml names the version"
        return 1
    fi
    local missing=()
    # librdkafka, curl, zstd, zlib, mimalloc and aws-lc are compiled from source; librdkafka asks for C++ and CMake as well
    if ! compiles cc stdlib.h c || ! compiles c++ string c++; then missing+=(gcc g++ libc6-dev); fi
    have make || missing+=(make)
    have cmake || missing+=(cmake)
    compiles cc openssl/ssl.h c || missing+=(libssl-dev)
    [ ${#missing[@]} = 0 ] || install_packages "${missing[@]}"
}

has_postgres() {
    have initdb && have postgres && return
    local program
    for program in /usr/lib/postgresql/*/bin/initdb; do [ -x "$program" ] && return; done
    return 1
}

setup_test() {
    local missing=()
    has_postgres || missing+=(postgresql)
    have kcat || missing+=(kcat)
    if ! have mosquitto && [ ! -x /usr/sbin/mosquitto ]; then missing+=(mosquitto); fi
    have mosquitto_pub || missing+=(mosquitto-clients)
    have ip || missing+=(iproute2) # a network of its own for one test
    has_libmodbus || missing+=(pkg-config libmodbus-dev)
    have mbpoll || missing+=(mbpoll)
    if ! have node || ! have npm; then missing+=(nodejs npm); fi
    python3 -c 'import ensurepip, venv' >/dev/null 2>&1 || missing+=(python3 python3-venv)
    [ ${#missing[@]} = 0 ] || install_packages "${missing[@]}" || true
    setup_node || say "no packages of Node.js: tests against node-opcua will say \`not run\`"
    setup_python || say "no Python environment: tests against Python clients will say \`not run\`"
}

has_libmodbus() {
    have pkg-config && pkg-config --exists libmodbus
}

# Packages of Node.js, exactly those of the lock file; none of them may run a program of its own.
setup_node() {
    local wanted=scripts/node-test/package-lock.json folder=$cache/node
    cmp -s "$wanted" "$folder/installed.json" && return
    have node && have npm || return 1
    say "installing packages of Node.js in $folder"
    rm -rf "$folder"
    mkdir -p "$folder"
    cp scripts/node-test/package.json "$wanted" "$folder/" || return 1
    npm ci --prefix "$folder" --ignore-scripts --no-audit --no-fund --loglevel=error >/dev/null || return 1
    cp "$wanted" "$folder/installed.json"
}

# A virtual environment with exactly the versions of requirements-test.txt.
setup_python() {
    local wanted=scripts/requirements-test.txt venv=$cache/venv
    local installed=$venv/requirements-installed.txt
    # an environment whose interpreter is gone (another Python, a copied cache) is made anew
    cmp -s "$wanted" "$installed" && "$venv/bin/python" -c '' 2>/dev/null && return
    have python3 || return 1
    say "making a Python environment in $venv"
    rm -rf "$venv"
    mkdir -p "$cache"
    python3 -m venv "$venv" && "$venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$wanted" || return 1
    cp "$wanted" "$installed"
}

setup_bench() {
    setup_python || say "no Python environment: benchmarks against Python clients will say \`not run\`"
    has_libmodbus || install_packages pkg-config libmodbus-dev || true
}

case ${1:-} in
build) setup_build ;;
test) setup_test ;;
bench) setup_bench ;;
*)
    echo "usage: $0 build|test|bench" >&2
    exit 64
    ;;
esac
