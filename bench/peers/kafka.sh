#!/usr/bin/env bash
# Apache Kafka as a peer: one node, KRaft, in a folder of its own.
#   kafka.sh install FOLDER             fetches Kafka and its dependencies with Maven, once
#   kafka.sh run FOLDER DATA PORT PORT2 [MORE [OPTION...]]
#                                       formats DATA and runs a broker on PORT (controller on PORT2) until it is ended;
#                                       the file MORE has further settings, OPTIONs go to the formatting
# "not run: ..." and exit code 3 mean that something it needs is missing.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

missing() {
    echo "not run: $1"
    exit 3
}

command -v java >/dev/null || missing "Java is not installed"

case "${1:-}" in
install)
    folder=$2
    if ! compgen -G "$folder/lib/kafka_2.13-*.jar" >/dev/null; then
        command -v mvn >/dev/null || missing "Maven is not installed"
        mkdir -p "$folder"
        mvn -q -B -f "$here/kafka/pom.xml" dependency:copy-dependencies -DoutputDirectory="$folder/lib" \
            -DincludeScope=runtime >"$folder/maven.log" 2>&1 || missing "Maven cannot fetch Kafka"
    fi
    ;;
run)
    folder=$2 data=$3 port=$4 controller=$5
    mkdir -p "$data"
    cat >"$data/server.properties" <<EOF
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$controller
listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$controller
advertised.listeners=PLAINTEXT://127.0.0.1:$port
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
log.dirs=$data/log
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
auto.create.topics.enable=false
EOF
    # the settings of Kafka's own start script
    java="java -Xms1G -Xmx1G -server -XX:+UseG1GC -XX:MaxGCPauseMillis=20 -XX:InitiatingHeapOccupancyPercent=35
        -XX:+ExplicitGCInvokesConcurrent -Djava.awt.headless=true -cp $folder/lib/*"
    [ $# -lt 6 ] || cat "$6" >>"$data/server.properties"
    set -f # the class path's star is for Java
    $java kafka.tools.StorageTool format -t AAAAAAAAQACAAAAAAAAAAA -c "$data/server.properties" "${@:7}" \
        >"$data/format.log" 2>&1
    linked= # the broker shall not outlive whoever started it
    command -v setpriv >/dev/null && linked="setpriv --pdeathsig TERM"
    exec $linked $java kafka.Kafka "$data/server.properties" >"$data/output.log" 2>&1
    ;;
*)
    echo "usage: $0 install FOLDER | run FOLDER DATA PORT PORT2" >&2
    exit 64
    ;;
esac
