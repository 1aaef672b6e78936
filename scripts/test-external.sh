#!/usr/bin/env bash
# The end-to-end tests of the gateway with `stream.mode: external`, against a real Apache Kafka (one node, KRaft, from
# Maven). Arguments go to the test program:  scripts/test-external.sh first_values
set -euo pipefail
cd "$(dirname "$0")/.."

cache=${XDG_CACHE_HOME:-$HOME/.cache}/streamforge
export SF_KAFKA=${SF_KAFKA:-$cache/bench/kafka}

installed=0
bench/peers/kafka.sh install "$SF_KAFKA" || installed=$?
if [ "$installed" = 3 ]; then exit 0; fi # it said `not run: ...`
if [ "$installed" != 0 ]; then exit "$installed"; fi

export SF_TEST_STREAM=kafka SF_TEST_EXTERNAL=1
if [ -z "${SF_PYTHON:-}" ] && [ -x "$cache/venv/bin/python" ]; then export SF_PYTHON=$cache/venv/bin/python; fi
# each test has a Kafka of its own: one at a time
cargo test --locked -p streamforge --test it -- --test-threads=1 "$@"
