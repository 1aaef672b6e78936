#!/usr/bin/env bash
# Other people's clients against our broker. One command per client, or all of them:
#
#   compat/run.sh [--short] [--killed-every SECONDS] [--against HOST:PORT] CLIENT...|all
#
#   --short                 only the cases of CLIENT/tests.short; a client without that file is left out
#   --killed-every SECONDS  the broker is killed and started again that often; only cases named killed-* run
#   --against HOST:PORT     another broker is asked instead of ours, an Apache Kafka for example: a case that passes here and
#                           fails there expects what Kafka does not do, and lines `told ...` show where answers differ
#
# The program under test is SF_COMPAT_PROGRAM, or the debug build, which is built first. Everything else that is needed is
# installed into the cache. What passes is listed in CLIENT/tests.allow and must pass; what does not pass is explained in
# CLIENT/FINDINGS.md. What cannot run on this machine is printed as `not run: ...`. Options of the broker that the cases of a
# client need stand in CLIENT/broker.options.
set -euo pipefail
compat=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=lib/broker.sh
source "$compat/lib/broker.sh"
# shellcheck source=lib/judge.sh
source "$compat/lib/judge.sh"

every=(confluent-kafka kcat kafka-python aiokafka rskafka franz-go java librdkafka librdkafka-crate)
short= killed_every= against=
clients=()
while [ $# -gt 0 ]; do
    case $1 in
    --short) short=1 ;;
    --killed-every)
        shift
        killed_every=${1:?"--killed-every needs a number of seconds"}
        ;;
    --against)
        shift
        against=${1:?"--against needs a host and a port"}
        ;;
    all) clients=("${every[@]}") ;;
    -*)
        echo "usage: $0 [--short] [--killed-every SECONDS] [--against HOST:PORT] CLIENT...|all" >&2
        exit 64
        ;;
    *) clients+=("$1") ;;
    esac
    shift
done
[ ${#clients[@]} -gt 0 ] || {
    echo "usage: $0 [--short] [--killed-every SECONDS] [--against HOST:PORT] ${every[*]}|all" >&2
    exit 64
}

export SF_COMPAT_CACHE=${SF_COMPAT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/streamforge/compat}
mkdir -p "$SF_COMPAT_CACHE"
[ -n "$against" ] || find_program
work=$(mktemp -d)
trap 'broker_stop; [ -n "${SF_KEEP:-}" ] || rm -rf "$work"' EXIT

passed=0 failed=0 not_run=0 known=0
for client in "${clients[@]}"; do
    [ -x "$compat/$client/run.sh" ] || {
        echo "there is no client $client" >&2
        exit 64
    }
    if [ -n "$short" ] && [ ! -f "$compat/$client/tests.short" ]; then continue; fi
    if [ -n "$killed_every" ] && ! grep -q '^killed-' "$compat/$client/tests.allow"; then continue; fi
    printf '== %s\n' "$client${killed_every:+, the broker killed every $killed_every s}"
    if ! "$compat/$client/run.sh" install >"$work/install.log" 2>&1; then
        reason=$(grep -m 1 '^not run: ' "$work/install.log" || echo "not run: $client (cannot be installed; $(tail -n 1 "$work/install.log"))")
        echo "$reason"
        not_run=$((not_run + 1))
        continue
    fi
    SF_COMPAT_BROKER_OPTIONS=$(cat "$compat/$client/broker.options" 2>/dev/null || true)
    if [ -n "$against" ]; then
        mkdir -p "$work/$client"
        export SF_COMPAT_BOOTSTRAP=$against SF_COMPAT_REGISTRY='' SF_COMPAT_CA_FILE='' SF_COMPAT_USER='' SF_COMPAT_PASSWORD=''
    else
        broker_start "$work/$client"
    fi
    export SF_COMPAT_WORK=$work/$client SF_COMPAT_CASES= SF_COMPAT_KILLED_EVERY=$killed_every
    if [ -n "$short" ]; then SF_COMPAT_CASES=$(listed "$compat/$client/tests.short" | paste -sd, -); fi
    if [ -n "$killed_every" ]; then broker_killed_every "$killed_every"; fi
    "$compat/$client/run.sh" cases 2>"$work/$client/errors.log" | tee "$work/$client/outcome" || true
    broker_stop
    judge "$client" "$work/$client/outcome"
done
printf '\ncompat: %d passed, %d failed, %d known not to pass, %d not run\n' "$passed" "$failed" "$known" "$not_run"
[ "$failed" = 0 ]
