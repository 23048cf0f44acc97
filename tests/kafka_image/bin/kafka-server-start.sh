#!/usr/bin/env bash
# kafka-server-start.sh server.properties [--override NAME=VALUE]...
set -o errexit -o nounset

home="$(dirname "$(dirname "$(readlink -f "$0")")")"
export KAFKA_LOG4J_OPTS="${KAFKA_LOG4J_OPTS:--Dlog4j2.configurationFile=$home/config/log4j2.yaml}"
export KAFKA_HEAP_OPTS="${KAFKA_HEAP_OPTS:--Xmx1G -Xms1G}"
exec "$home/bin/kafka-run-class.sh" -name kafkaServer -loggc kafka.Kafka "$@"
