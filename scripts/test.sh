#!/usr/bin/env bash
# All checks and all tests, as CI runs them. Ends with one line: what passed, what failed, what did not run.
set -euo pipefail
cd "$(dirname "$0")/.."

cache=${XDG_CACHE_HOME:-$HOME/.cache}/streamforge
target=${CARGO_TARGET_DIR:-target}

# Tests against foreign programs. They take the interpreter and packages from here and other programs from PATH.
export SF_TEST_EXTERNAL=1
if [ -z "${SF_PYTHON:-}" ] && [ -x "$cache/venv/bin/python" ]; then export SF_PYTHON=$cache/venv/bin/python; fi
if [ -z "${SF_NODE_MODULES:-}" ] && [ -d "$cache/node/node_modules" ]; then export SF_NODE_MODULES=$cache/node/node_modules; fi

log=$(mktemp)
trap 'rm -f "$log"' EXIT

step() {
    printf '== %s\n' "$*"
    "$@"
}

step cargo fmt --all --check
step cargo clippy --quiet --locked --workspace --all-targets -- -D warnings
step cargo xtask tidy
failed=0
step cargo test --locked --workspace --no-fail-fast 2>&1 | tee "$log" || failed=1
# asks the binary the tests have just built
step cargo xtask gen --check --binary "$target/debug/streamforge" || failed=1
step cargo xtask examples --binary "$target/debug/streamforge" || failed=1
# a minute of what `make compat` does at length
SF_COMPAT_PROGRAM=$target/debug/streamforge step compat/run.sh --short all 2>&1 | tee -a "$log" || failed=1

not_run=$(grep -oE 'not run: .*' "$log" | sort -u || true)
if [ -n "$not_run" ]; then printf '\n%s\n' "$not_run"; fi
awk -v not_run="$(printf '%s' "$not_run" | grep -c . || true)" '
    /^test result: / { for (i = 2; i <= NF; i++) { if ($i ~ /^passed/) passed += $(i-1); if ($i ~ /^failed/) failed += $(i-1) } }
    END { printf "\n%d passed, %d failed, %d not run\n", passed, failed, not_run }' "$log"
exit "$failed"
