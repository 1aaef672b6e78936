#!/usr/bin/env bash
# One command per benchmark:
#   bench/run.sh b1 | b5 | b6 | b7 | b8 | b13 | b15 | b17 | b20 | b21 | b24 | all | table
#   bench/run.sh curve-partitions | curve-retention | curve-recovery | curves
#   bench/run.sh load --rate 50000 --seconds 300
# Builds the release binary and the peers first; SF_BENCH_PROGRAM names a binary that is built already.
# `table` prints the newest results as Markdown. What is missing on this machine is printed as "not run: ...". The last line is the ratio.
set -euo pipefail
folder=$(cd "$(dirname "$0")" && pwd)
cd "$folder/.."
benchmark=${1:?"usage: $0 b1|b5|b6|b7|b8|b13|b15|b17|b20|b21|b24|load|all [options]"}
shift
cache=${SF_BENCH_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/streamforge/bench}
target=${CARGO_TARGET_DIR:-target}
mkdir -p "$cache"

cargo build --release --quiet -p bench
if [ -z "${SF_BENCH_PROGRAM:-}" ]; then
    cargo build --release --quiet -p streamforge
    export SF_BENCH_PROGRAM=$target/release/streamforge
fi

commit=$(git rev-parse --short=12 HEAD)
git diff --quiet HEAD -- crates Cargo.toml Cargo.lock || commit=$commit+changes
export SF_BENCH_COMMIT=$commit SF_BENCH_FOLDER=$folder SF_BENCH_KAFKA=$cache/kafka SF_BENCH_PEERS=$cache/peers

prepare_b13() {
    mkdir -p "$SF_BENCH_PEERS"
    if ! command -v pkg-config >/dev/null || ! pkg-config --exists libmodbus; then
        echo "not run: B13, libmodbus-dev and pkg-config are not installed"
        return 1
    fi
    local program
    for program in libmodbus_server libmodbus_loop; do
        # shellcheck disable=SC2046  # the flags are words
        cc -O2 -Wall -Wextra -o "$SF_BENCH_PEERS/$program" "$folder/peers/$program.c" $(pkg-config --cflags --libs libmodbus)
    done
    if [ -z "${SF_BENCH_PYTHON:-}" ] && [ ! -x "$cache/venv/bin/python" ]; then
        python3 -m venv "$cache/venv" && "$cache/venv/bin/pip" install --quiet pymodbus || true
    fi
    export SF_BENCH_PYTHON=${SF_BENCH_PYTHON:-$cache/venv/bin/python}
}

run() {
    local name=$1
    shift
    if [ "$name" = b13 ]; then
        prepare_b13 || return 0
    fi
    "$target/release/bench" "$@" "$name"
}

if [ "$benchmark" = all ]; then
    for name in b13 b15 b17 b20 b21 b24 b1 b5 b6 b7 b8 load; do
        echo "== $name"
        run "$name" "$@" || echo "failed: $name"
    done
elif [ "$benchmark" = curves ]; then
    for name in curve-partitions curve-retention curve-recovery; do
        echo "== $name"
        run "$name" "$@" || echo "failed: $name"
    done
else
    run "$benchmark" "$@"
fi
