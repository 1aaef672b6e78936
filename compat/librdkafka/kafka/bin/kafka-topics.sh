#!/usr/bin/env bash
# As much of Apache Kafka's kafka-topics.sh as the suite calls, said with our own command line.
set -euo pipefail
action='' topic='' options=()
while [ $# -gt 0 ]; do
    case $1 in
    --create | --alter | --delete) action=${1#--} ;;
    --bootstrap-server) options+=(--bootstrap "$2") && shift ;;
    --topic) topic=$2 && shift ;;
    --partitions) options+=(--partitions "$2") && shift ;;
    --config) options+=(--set "$2") && shift ;;
    --replication-factor) shift ;; # there is one broker
    *)
        echo "kafka-topics.sh: $1 is not known here" >&2
        exit 64
        ;;
    esac
    shift
done
exec "$SF_COMPAT_PROGRAM" ctl topics "$action" "$topic" "${options[@]}" --execute
