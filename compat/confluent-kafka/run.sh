#!/usr/bin/env bash
# confluent-kafka. Called by compat/run.sh: `install`, then `cases`.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd) compat=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source=../lib/python.sh
source "$compat/lib/python.sh"
case ${1:-} in
install) python_install confluent-kafka ;;
cases) PYTHONPATH=$compat/lib PYTHONDONTWRITEBYTECODE=1 exec "$python" "$here/cases_confluent_kafka.py" ;;
esac
