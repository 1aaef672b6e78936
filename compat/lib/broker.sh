# The broker under test: found, started on free ports, killed and started again on the same ones, stopped.
# shellcheck shell=bash

broker_pid='' killer_pid=''

# Names the program in SF_COMPAT_PROGRAM; builds it when nobody has.
find_program() {
    if [ -z "${SF_COMPAT_PROGRAM:-}" ]; then
        (cd "$compat/.." && cargo build --quiet --locked --package streamforge --bin streamforge)
        SF_COMPAT_PROGRAM=${CARGO_TARGET_DIR:-$compat/../target}/debug/streamforge
    fi
    export SF_COMPAT_PROGRAM
}

# Prints an address out of the file that a running broker publishes.
broker_address() {
    sed -nE 's/.*"'"$2"'" *: *"([^"]+)".*/\1/p' "$1/data/broker.addr" | head -n 1
}

# Runs a broker in a folder and waits for its addresses; on the ports it had, when it had some.
broker_run() {
    local folder=$1 kafka registry
    kafka=${SF_COMPAT_BOOTSTRAP:-127.0.0.1:0}
    registry=${SF_COMPAT_REGISTRY:-127.0.0.1:0}
    rm -f "$folder/data/broker.addr"
    # the folder may be small: a reserve of free space is another test's matter; rules are asked, and allow what is not theirs
    local options=(--reserve-bytes 0 --authorize --super-user ANONYMOUS --super-user "$SF_COMPAT_USER")
    if [ -n "$SF_COMPAT_CA_FILE" ]; then
        local secure=tls-cert=$folder/server.pem,tls-key=$folder/server.key
        options+=(--listener "name=tls,address=${SF_COMPAT_TLS_BOOTSTRAP:-127.0.0.1:0},$secure"
            --listener "name=sasl,address=${SF_COMPAT_SASL_BOOTSTRAP:-127.0.0.1:0},$secure,sasl=required")
    fi
    # what one client's cases need beside
    # shellcheck disable=SC2206  # words
    options+=(${SF_COMPAT_BROKER_OPTIONS:-})
    "$SF_COMPAT_PROGRAM" broker --data-dir "$folder/data" --listen "$kafka" --registry-listen "${registry#http://}" \
        "${options[@]}" >>"$folder/broker.log" 2>&1 </dev/null &
    broker_pid=$!
    local deadline=$((SECONDS + 30))
    until [ -s "$folder/data/broker.addr" ]; do
        if ! kill -0 "$broker_pid" 2>/dev/null || [ "$SECONDS" -gt "$deadline" ]; then
            echo "the broker does not start:" >&2
            tail -n 5 "$folder/broker.log" >&2
            return 1
        fi
        sleep 0.05
    done
}

# An authority and a certificate of it for this machine, in a folder. Without openssl there is no TLS, and it is said.
certificates() {
    (
        cd "$1"
        openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=compat-authority -keyout ca.key -out ca.pem
        openssl req -newkey rsa:2048 -nodes -subj /CN=127.0.0.1 -keyout server.key -out server.csr
        openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -out server.pem \
            -extfile <(printf 'subjectAltName=IP:127.0.0.1,DNS:localhost\nbasicConstraints=CA:FALSE\n')
    ) >/dev/null 2>&1
}

broker_start() {
    mkdir -p "$1"
    unset SF_COMPAT_BOOTSTRAP SF_COMPAT_REGISTRY SF_COMPAT_TLS_BOOTSTRAP SF_COMPAT_SASL_BOOTSTRAP
    export SF_COMPAT_USER=compat SF_COMPAT_PASSWORD=compat-password SF_COMPAT_CA_FILE=
    if certificates "$1"; then SF_COMPAT_CA_FILE=$1/ca.pem; fi
    mkdir -p "$1/data"
    "$SF_COMPAT_PROGRAM" ctl user set "$SF_COMPAT_USER" --broker-data-dir "$1/data" <<<"$SF_COMPAT_PASSWORD" >/dev/null
    broker_run "$1"
    SF_COMPAT_BOOTSTRAP=$(broker_address "$1" kafka)
    SF_COMPAT_REGISTRY=http://$(broker_address "$1" registry)
    export SF_COMPAT_BOOTSTRAP SF_COMPAT_REGISTRY
    if [ -n "$SF_COMPAT_CA_FILE" ]; then
        SF_COMPAT_TLS_BOOTSTRAP=$(broker_address "$1" tls)
        SF_COMPAT_SASL_BOOTSTRAP=$(broker_address "$1" sasl)
        export SF_COMPAT_TLS_BOOTSTRAP SF_COMPAT_SASL_BOOTSTRAP
    fi
}

# From now on kills the broker without a warning every so many seconds and starts it again.
broker_killed_every() {
    (
        sleeping=
        trap 'kill "$sleeping"; kill -9 "$broker_pid"; exit' TERM
        while :; do
            sleep "$1" &
            sleeping=$!
            wait "$sleeping"
            kill -9 "$broker_pid" || true
            # it holds its folder and its ports until it is gone
            while kill -0 "$broker_pid" 2>/dev/null; do sleep 0.02; done
            until broker_run "$SF_COMPAT_WORK"; do sleep 1; done
        done
    ) 2>>"$SF_COMPAT_WORK/killer.log" &
    killer_pid=$! broker_pid=
}

broker_stop() {
    if [ -n "$killer_pid" ]; then
        kill "$killer_pid" 2>/dev/null || true
        wait "$killer_pid" 2>/dev/null || true
        killer_pid=
    fi
    if [ -n "$broker_pid" ]; then
        kill "$broker_pid" 2>/dev/null || true
        wait "$broker_pid" 2>/dev/null || true
        broker_pid=
    fi
}
