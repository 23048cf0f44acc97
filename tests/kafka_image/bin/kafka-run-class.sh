#!/usr/bin/env bash
# kafka-run-class.sh [-name NAME] [-loggc] CLASS [ARGUMENT...]: one of Kafka's classes in a JVM; the variables are those
# of the official script.
set -o errexit -o nounset

home="$(dirname "$(dirname "$(readlink -f "$0")")")"
logs="${LOG_DIR:-$home/logs}"
name=""
collector=""
while [[ "${1:-}" == -* ]]; do
  case "$1" in
    -name) name="$2"; shift 2 ;;
    -loggc) collector="-Xlog:gc*:file=$logs/$name-gc.log:time,tags:filecount=10,filesize=100M"; shift ;;
    *) echo "kafka-run-class.sh: got $1, allowed -name NAME, -loggc" >&2; exit 1 ;;
  esac
done

# shellcheck disable=SC2086 # each of these is a list of options
exec "$JAVA_HOME/bin/java" ${KAFKA_HEAP_OPTS:--Xmx256M} \
  ${KAFKA_JVM_PERFORMANCE_OPTS:--XX:+UseG1GC -XX:MaxGCPauseMillis=20 -XX:InitiatingHeapOccupancyPercent=35} \
  ${KAFKA_GC_LOG_OPTS:-$collector} ${KAFKA_JMX_OPTS:-} \
  -Djava.awt.headless=true --enable-native-access=ALL-UNNAMED -Dkafka.logs.dir="$logs" \
  ${KAFKA_LOG4J_OPTS:--Dlog4j2.configurationFile=$home/config/tools-log4j2.yaml} \
  -cp "$home/libs/*" ${KAFKA_OPTS:-} "$@"
