#!/usr/bin/env bash
# kcat. Called by compat/run.sh: `install`, then `cases`.
set -euo pipefail
compat=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source=../lib/python.sh
source "$compat/lib/python.sh"
wait_seconds=30

produce_consume() {
    topic produced 3
    seq 1 1000 | sed 's/.*/key&:value&/' | kcat -q -b "$SF_COMPAT_BOOTSTRAP" -P -t produced -K: -H origin=here
    kcat -q -b "$SF_COMPAT_BOOTSTRAP" -C -t produced -o beginning -e -f '%k %s %h\n' | sort >"$work/got"
    seq 1 1000 | sed 's/.*/key& value& origin=here/' | sort >"$work/wanted"
    cmp "$work/got" "$work/wanted"
}

compression() {
    topic "compressed-$1" 1
    seq -f 'value %g of many alike' 1 5000 >"$work/wanted"
    kcat -q -b "$SF_COMPAT_BOOTSTRAP" -P -t "compressed-$1" -z "$1" <"$work/wanted"
    kcat -q -b "$SF_COMPAT_BOOTSTRAP" -C -t "compressed-$1" -o beginning -e >"$work/got"
    cmp "$work/got" "$work/wanted"
}

compression_gzip() { compression gzip; }
compression_snappy() { compression snappy; }
compression_lz4() { compression lz4; }
compression_zstd() { compression zstd; }

idempotence() {
    topic idempotent 1
    seq 1 20000 | kcat -q -b "$SF_COMPAT_BOOTSTRAP" -P -t idempotent -X enable.idempotence=true -X batch.num.messages=100
    kcat -q -b "$SF_COMPAT_BOOTSTRAP" -C -t idempotent -o beginning -e | cmp - <(seq 1 20000)
}

transactions() {
    topic transacted 1
    seq 1 100 | kcat -q -b "$SF_COMPAT_BOOTSTRAP" -P -t transacted -X transactional.id=kcat
    kcat -q -b "$SF_COMPAT_BOOTSTRAP" -C -t transacted -o beginning -e -X isolation.level=read_committed | cmp - <(seq 1 100)
}

metadata() {
    topic described 5
    kcat -b "$SF_COMPAT_BOOTSTRAP" -L -J -t described | grep -q '"topic":"described","partitions":\[{"partition":0,"leader":'
}

group() {
    topic grouped 2
    seq 1 100 | kcat -q -b "$SF_COMPAT_BOOTSTRAP" -P -t grouped -p 0
    kcat -q -b "$SF_COMPAT_BOOTSTRAP" -G kcat-group -X auto.offset.reset=earliest -c 100 grouped | sort -n | cmp - <(seq 1 100)
    # what is read and committed does not come again
    seq 101 150 | kcat -q -b "$SF_COMPAT_BOOTSTRAP" -P -t grouped -p 0
    kcat -q -b "$SF_COMPAT_BOOTSTRAP" -G kcat-group -X auto.offset.reset=earliest -c 50 grouped | sort -n | cmp - <(seq 101 150)
}

seek_by_time() {
    topic timed 1
    seq 1 10 | kcat -q -b "$SF_COMPAT_BOOTSTRAP" -P -t timed
    sleep 0.05
    local now
    now=$(date +%s%3N)
    sleep 0.05
    seq 11 20 | kcat -q -b "$SF_COMPAT_BOOTSTRAP" -P -t timed
    kcat -q -b "$SF_COMPAT_BOOTSTRAP" -C -t timed -o "s@$now" -e | cmp - <(seq 11 20)
    [ "$(kcat -q -b "$SF_COMPAT_BOOTSTRAP" -Q -t "timed:0:$now")" = "timed [0] offset 10" ]
}

secured() {
    topic "$1" 1
    shift
    seq 1 10 | kcat -q "$@" -P -t "$name"
    kcat -q "$@" -C -t "$name" -o beginning -e | cmp - <(seq 1 10)
}

tls() {
    secured tls -b "$SF_COMPAT_TLS_BOOTSTRAP" -X security.protocol=SSL -X "ssl.ca.location=$SF_COMPAT_CA_FILE"
}

sasl() {
    secured "$1" -b "$SF_COMPAT_SASL_BOOTSTRAP" -X security.protocol=SASL_SSL -X "ssl.ca.location=$SF_COMPAT_CA_FILE" \
        -X "sasl.mechanism=$2" -X "sasl.username=$SF_COMPAT_USER" -X "sasl.password=$SF_COMPAT_PASSWORD"
}

sasl_plain() { sasl sasl-plain PLAIN; }
sasl_scram_256() { sasl sasl-scram-256 SCRAM-SHA-256; }
sasl_scram_512() { sasl sasl-scram-512 SCRAM-SHA-512; }

# kcat cannot create topics, and the broker does not create what is asked for.
topic() {
    "$python" "$compat/lib/create_topic.py" "$SF_COMPAT_BOOTSTRAP" "$1" "$2"
}

cases() {
    export -f topic compression secured sasl
    local case name
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    export work python compat
    for case in produce_consume compression_gzip compression_snappy compression_lz4 compression_zstd idempotence transactions \
        metadata group seek_by_time tls sasl_plain sasl_scram_256 sasl_scram_512; do
        name=${case//_/-}
        if [ -n "$SF_COMPAT_CASES" ] && [[ ,$SF_COMPAT_CASES, != *",$name,"* ]]; then continue; fi
        case $case in
        tls) [ -n "${SF_COMPAT_TLS_BOOTSTRAP:-}" ] || { echo "not run: $name (the broker is not started with it)"; continue; } ;;
        sasl_*) [ -n "${SF_COMPAT_SASL_BOOTSTRAP:-}" ] || { echo "not run: $name (the broker is not started with it)"; continue; } ;;
        esac
        export -f "${case?}"
        export name
        if timeout "$wait_seconds" bash -euo pipefail -c "$case" >"$work/talk" 2>&1; then
            echo "pass $name"
        else
            echo "fail $name: $(tail -n 1 "$work/talk")"
        fi
    done
}

case ${1:-} in
install)
    command -v kcat >/dev/null || {
        echo "not run: kcat (it is not installed; scripts/setup.sh test installs it)"
        exit 3
    }
    python_install kcat
    ;;
cases)
    export SF_COMPAT_CASES=${SF_COMPAT_CASES:-}
    cases
    ;;
esac
