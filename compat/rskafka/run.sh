#!/usr/bin/env bash
# rskafka. Called by compat/run.sh: `install`, then `cases`.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
export CARGO_TARGET_DIR=$SF_COMPAT_CACHE/rskafka
case ${1:-} in
install)
    command -v cargo >/dev/null || {
        echo "not run: rskafka (Cargo is not installed)"
        exit 3
    }
    cargo build --quiet --locked --manifest-path "$here/Cargo.toml"
    ;;
cases) exec "$CARGO_TARGET_DIR/debug/compat-rskafka" ;;
esac
