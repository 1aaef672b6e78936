#!/usr/bin/env bash
# librdkafka's own suite, its `tests/test-runner`. Called by compat/run.sh: `install`, then `cases`.
#
# SF_COMPAT_LIBRDKAFKA says whose source it is: `debian` (2.0.2, `apt-get source`) or `crate` (the one that we are built with,
# from cargo's own copy). Cases have the names that the suite gives them; a case is one entry of the table in its test.c.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd) compat=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source=../lib/broker.sh
source "$compat/lib/broker.sh"
# shellcheck source=../lib/judge.sh
source "$compat/lib/judge.sh"
from=${SF_COMPAT_LIBRDKAFKA:-debian}
# the suite asks which Apache Kafka it talks to, and leaves out what that cannot do
kafka_version=3.9.1
# one test may wait that long; its own deadlines are shorter
wait_seconds=420
# that many at once, each in a process of its own: they wait more than they work
at_once=3

missing() {
    echo "not run: librdkafka ($1)"
    exit 3
}

# Prints the folder of Debian's source, fetched once. Its list of packages is a list of our own: the machine's stays as it is.
source_of_debian() {
    local apt=$SF_COMPAT_CACHE/librdkafka-apt mirror
    if ! compgen -G "$apt/librdkafka-*/configure" >/dev/null; then
        command -v apt-get >/dev/null && command -v dpkg-source >/dev/null ||
            missing "Debian's source needs apt-get and dpkg-source"
        # shellcheck disable=SC2016  # apt-get fills it in
        mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -m 1 '/debian/*$') ||
            missing "apt-get knows no mirror of Debian"
        rm -rf "$apt"
        mkdir -p "$apt/sources" "$apt/lists/partial" "$apt/cache/archives/partial"
        printf 'Types: deb-src\nURIs: %s\nSuites: bookworm\nComponents: main\nSigned-By: %s\n' "$mirror" \
            /usr/share/keyrings/debian-archive-keyring.gpg >"$apt/sources/debian.sources"
        local options=(-qq -o "Dir::Etc::SourceList=/dev/null" -o "Dir::Etc::SourceParts=$apt/sources" -o "Dir::State::Lists=$apt/lists"
            -o "Dir::Cache=$apt/cache" -o "APT::Sandbox::User=$(id -un)")
        { apt-get "${options[@]}" update && (cd "$apt" && apt-get "${options[@]}" source librdkafka rapidjson); } >&2 ||
            missing "apt-get cannot fetch Debian's source"
    fi
    dirname "$(compgen -G "$apt/librdkafka-*/configure" | head -n 1)"
}

# Prints the folder of the source that cargo has.
source_of_crate() {
    local manifest host
    host=$(rustc --version --verbose | sed -n 's/^host: //p')
    manifest=$(cd "$here" && cargo metadata --locked --offline --format-version 1 --filter-platform "$host" 2>/dev/null |
        grep -oE '"manifest_path":"[^"]*/rdkafka-sys-[^"]*/Cargo.toml"' | head -n 1 | cut -d '"' -f 4) || true
    [ -n "$manifest" ] || missing "cargo does not have the source of rdkafka-sys"
    echo "${manifest%/Cargo.toml}/librdkafka"
}

# Sets `built` to where the suite is built, which is named after its version.
find_built() {
    local version
    version=$(sed -nE 's/^#define RD_KAFKA_VERSION +0x(..)(..)(..)ff.*/16#\1 16#\2 16#\3/p' "$1/src/rdkafka.h")
    # shellcheck disable=SC2086  # three numbers
    built=$SF_COMPAT_CACHE/librdkafka-$(printf '%d.%d.%d' $(for part in $version; do echo $((part)); done))
}

build() {
    local source=$1 json
    # headers with which the suite looks at statistics
    json=$(compgen -G "$SF_COMPAT_CACHE/librdkafka-apt/rapidjson-*/include" | head -n 1) || true
    # `configure` and `make` write beside the source
    rm -rf "$built"
    cp -r "$source" "$built"
    cd "$built"
    # where the suite asks for a topic with three copies it is content with one: there is one broker
    sed -i 's/rd_kafka_NewTopic_new(topicname, partition_cnt, replication_factor,/rd_kafka_NewTopic_new(topicname, partition_cnt, 1,/' tests/test.c
    # neither Kerberos nor OpenID; what is compiled in does not depend on what this machine happens to have, but for TLS and zlib
    CXXFLAGS=${json:+-isystem $json} ./configure --disable-gssapi --disable-curl --disable-zstd --disable-lz4-ext
    make -j2 libs
    make -j2 -C tests test-runner
    declare -f build >suite-is-built
}

# Prints the tests that talk to a broker, each with the scenario it is for, as the suite's table has them. The others bring a
# broker of their own, or none, or are marked as manual or broken by their authors.
tests_with_broker() {
    sed -n '/^struct test tests/,/^};/p' "$built/tests/test.c" | tr -d '\n' | sed 's/_TEST(/\n&/g' |
        sed -nE '/LOCAL|MANUAL|TEST_F_KNOWN_ISSUE[,)]/d; s/^_TEST\(([0-9]{4}_[a-z0-9_]+),.*\.scenario = "([a-z]+)".*/\1 \2/p; t; s/^_TEST\(([0-9]{4}_[a-z0-9_]+),.*/\1 default/p'
}

# Prints the cases, as `NUMBER SCENARIO NAME PIECE`; a test that is not taken apart has the piece `-`.
cases_of_suite() {
    local name scenario pieces piece
    # records of 1970 are written and read before the broker first looks, after 30 s, for what is too old to be kept
    while read -r name scenario; do
        pieces=$(listed "$here/tests.split" | sed -n "s/^$name //p")
        for piece in ${pieces:--}; do
            # a piece may belong to another version of the suite
            [ "$piece" = - ] || grep -qF "$piece(" "$built/tests/${name%%_*}"-*.c* || continue
            echo "${name%%_*} $scenario $name $piece"
        done
    done < <(tests_with_broker | awk '/^00(52|54|59)_/ { print; next } { rest = rest $0 "\n" } END { printf "%s", rest }')
}

# Runs the cases that one process can run, `NUMBER SCENARIO PIECE NAME...`, and prints their outcomes.
run_cases() {
    local number=$1 scenario=$2 piece=$3 name case row log conf=$work/test.conf
    shift 3
    local options=(-p1 -L -s "$scenario")
    [ -z "$SF_COMPAT_CASES" ] || options+=(-Q) # the few quick ones are quick
    case $number in 0135 | 0142) conf=$work/sasl.conf ;; esac # about logins
    log=$work/$number-$scenario$piece.log
    (
        cd "$work"
        [ "$piece" = - ] || export SUBTESTS=$piece
        RDKAFKA_TEST_CONF=$conf TESTS=$number timeout --kill-after 5 "$wait_seconds" "$built/tests/test-runner" "${options[@]}"
    ) >"$log" 2>&1 </dev/null || true
    sed -i 's/\x1b\[[0-9;]*m//g' "$log"
    for name in "$@"; do
        case=$name
        [ "$piece" = - ] || case=$name/$piece
        row=$(grep -oE "^\| $name +\| +[A-Z]+ \|" "$log" | tail -n 1 | awk '{ print $4 }') || true
        case $row in
        PASSED)
            # a piece that the suite does not know passes without having run
            if [ "$piece" = - ] || grep -q "$piece.*: PASS" "$log"; then
                echo "pass $case"
            else
                echo "not run: $case (it is not in this version of the suite, or not for this broker)"
            fi
            ;;
        SKIPPED) echo "not run: $case ($(reason "$name" "$log"))" ;;
        *) echo "fail $case: $(reason "$name" "$log")" ;;
        esac
    done
}

# Why a test did not pass, in the suite's words: what it says behind the name of the test, else its last word.
reason() {
    local said
    said=$(sed -nE "/^\[$1 .*SKIPPING TEST: /{s/.*SKIPPING TEST: //p;q}; /^### Test \"$1[\" ].*failed at /{s/.* failed at ([^ ]+) .*/at \1/;N;s/\n/: /p;q}" "$2")
    echo "${said:-$(tail -n 1 "$2")}" | cut -c 1-200
}

# Runs the cases of a scenario against the broker that is there.
run_scenario() {
    awk -v scenario="$1" '$2 == scenario { key = $1 " " $2 " " $4; if (!(key in names)) keys[++count] = key; names[key] = names[key] " " $3 }
        END { for (i = 1; i <= count; i++) print keys[i] names[keys[i]] }' "$work/wanted" |
        xargs -r -P "$at_once" -d '\n' -n 1 bash -c 'set -euo pipefail; read -ra words <<<"$1"; run_cases "${words[@]}"' run_cases
}

cases() {
    find_built "$source"
    work=$SF_COMPAT_WORK/suite/tests
    mkdir -p "$work"
    # what the tests look for in the neighbour folder
    ln -sfn "$built/src" "$SF_COMPAT_WORK/suite/src"
    local number scenario name piece case why
    while read -r number scenario name piece; do
        case=$name
        [ "$piece" = - ] || case=$name/$piece
        if [ -n "$SF_COMPAT_CASES" ] && [[ ,$SF_COMPAT_CASES, != *",$case,"* ]]; then continue; fi
        why=$(sed -n "s/^$name //p" "$here/tests.left-out")
        if [ -n "$why" ]; then
            echo "not run: $case ($why)"
        else
            echo "$number $scenario $name $piece" >&3
        fi
    done < <(cases_of_suite) 3>"$work/wanted"
    # names of topics that nobody had before, and patience: the tests' deadlines are for larger machines
    local settings=(test.topic.random=true test.timeout.multiplier=2)
    printf '%s\n' "bootstrap.servers=$SF_COMPAT_BOOTSTRAP" "${settings[@]}" >"$work/test.conf"
    printf '%s\n' "bootstrap.servers=${SF_COMPAT_SASL_BOOTSTRAP:-}" "${settings[@]}" security.protocol=SASL_SSL \
        "ssl.ca.location=$SF_COMPAT_CA_FILE" sasl.mechanisms=PLAIN "sasl.username=$SF_COMPAT_USER" \
        "sasl.password=$SF_COMPAT_PASSWORD" >"$work/sasl.conf"
    # Kafka's own tool for topics is played by ours
    export TEST_KAFKA_VERSION=$kafka_version KAFKA_PATH=$here/kafka BROKERS=$SF_COMPAT_BOOTSTRAP
    export work built wait_seconds LD_LIBRARY_PATH=$built/src:$built/src-cpp
    # its deadlines do not depend on who runs it
    unset CI
    export -f run_cases reason
    run_scenario default
    if grep -q ' noautocreate ' "$work/wanted"; then
        trap broker_stop EXIT
        SF_COMPAT_BROKER_OPTIONS='' broker_start "$SF_COMPAT_WORK/noautocreate"
        export BROKERS=$SF_COMPAT_BOOTSTRAP
        printf '%s\n' "bootstrap.servers=$SF_COMPAT_BOOTSTRAP" "${settings[@]}" >"$work/test.conf"
        run_scenario noautocreate
    fi
}

case $from in
debian) source=$(source_of_debian) || { echo "$source"; exit 3; } ;;
crate) source=$(source_of_crate) || { echo "$source"; exit 3; } ;;
*) missing "$from is neither debian nor crate" ;;
esac
case ${1:-} in
install)
    find_built "$source"
    # built as this script builds it today; how old its file is says nothing after a checkout
    if ! declare -f build | cmp -s - "$built/suite-is-built"; then
        for program in make cc c++; do
            command -v "$program" >/dev/null || missing "$program is not installed"
        done
        (build "$source")
    fi
    ;;
cases) cases ;;
esac
