#!/usr/bin/env bash
# franz-go. Called by compat/run.sh: `install`, then `cases`.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
case ${1:-} in
install)
    command -v go >/dev/null || {
        echo "not run: franz-go (Go is not installed)"
        exit 3
    }
    export GOMODCACHE=$SF_COMPAT_CACHE/go/mod GOCACHE=$SF_COMPAT_CACHE/go/build GOFLAGS=-modcacherw
    cd "$here" && go build -o "$SF_COMPAT_CACHE/go/cases" .
    ;;
cases) exec "$SF_COMPAT_CACHE/go/cases" ;;
esac
