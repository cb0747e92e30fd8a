#!/usr/bin/env bash
# Makes sure that a broker which bench measures beside Troupe is there, and prints where:
# "peers.sh kafka" the folder with its jars, from Maven Central; "peers.sh nats" the
# nats-server and "peers.sh natsload" the program that drives it, both built from the
# versions that tools/peers/go.mod pins. All goes to bin; nothing is fetched twice.
set -euo pipefail
cd "$(dirname "$0")/.."

pom=tools/peers/pom.xml
kafka=bin/kafka

case ${1:-} in
kafka)
	if ! cmp -s $pom $kafka/pom.xml; then
		for tool in java mvn; do
			if ! command -v "$tool" >/dev/null; then
				echo "measuring Kafka needs $tool: install a JDK (17 or newer) and Maven" >&2
				exit 1
			fi
		done
		echo "fetching Apache Kafka's jars" >&2
		rm -rf $kafka
		mvn -q -B -f $pom dependency:copy-dependencies "-DoutputDirectory=$PWD/$kafka" >&2
		cp $pom $kafka/
	fi
	echo "$PWD/$kafka"
	;;
nats)
	CGO_ENABLED=0 go -C tools/peers build -trimpath -ldflags '-s -w' -o "$PWD/bin/nats-server" \
		github.com/nats-io/nats-server/v2 >&2
	echo "$PWD/bin/nats-server"
	;;
natsload)
	go -C tools/peers build -trimpath -o "$PWD/bin/natsload" ./natsload >&2
	echo "$PWD/bin/natsload"
	;;
*)
	echo "usage: $0 kafka|nats|natsload" >&2
	exit 2
	;;
esac
