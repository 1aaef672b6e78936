#!/usr/bin/env bash
# librdkafka's own suite in the version that we are built with. Called by compat/run.sh: `install`, then `cases`.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
export SF_COMPAT_LIBRDKAFKA=crate
exec "$here/../librdkafka/run.sh" "$@"
