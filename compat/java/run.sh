#!/usr/bin/env bash
# Apache Kafka's own client, in its last version of each line that is in use. Called by compat/run.sh: `install`, then `cases`.
# Names of cases begin with the major version of the client.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
declare -A versions=([3]=3.9.1 [4]=4.4.0)

missing() {
    echo "not run: java ($1)"
    exit 3
}

case ${1:-} in
install)
    command -v javac >/dev/null || missing "there is no Java compiler"
    for version in "${versions[@]}"; do
        folder=$SF_COMPAT_CACHE/java/$version
        if ! compgen -G "$folder/kafka-clients-*.jar" >/dev/null; then
            command -v mvn >/dev/null || missing "Maven is not installed"
            mvn -q -B -f "$here/pom.xml" "-Dkafka.version=$version" dependency:copy-dependencies \
                -DoutputDirectory="$folder" -DincludeScope=runtime || missing "Maven cannot fetch kafka-clients $version"
        fi
        mkdir -p "$folder/classes"
        if [ "$here/Cases.java" -nt "$folder/classes/Cases.class" ]; then
            javac -nowarn -cp "$folder/*" -d "$folder/classes" "$here/Cases.java"
        fi
    done
    ;;
cases)
    for major in 3 4; do
        folder=$SF_COMPAT_CACHE/java/${versions[$major]}
        java -Xmx256m -XX:TieredStopAtLevel=1 -Dorg.slf4j.simpleLogger.defaultLogLevel=error \
            -cp "$folder/classes:$folder/*" Cases "$major" || true
    done
    ;;
esac
