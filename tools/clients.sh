#!/usr/bin/env bash
# Makes sure that what "make clients" drives is there: Kafka's Java clients, Streams
# and tools from Maven Central, kafkajs from npm, and our Java programs compiled. All
# of it goes to .cache/clients; nothing is fetched twice.
set -euo pipefail
cd "$(dirname "$0")/.."

source=$PWD/e2e/clients
target=$PWD/.cache/clients

for tool in java javac mvn node npm; do
	if ! command -v "$tool" >/dev/null; then
		echo "\"make clients\" needs $tool: install a JDK (17 or newer), Maven and Node.js" >&2
		exit 1
	fi
done

# fetched reports whether what a file lists has been fetched already.
fetched() { cmp -s "$source/$1" "$target/$1"; }

mkdir -p "$target"
if ! fetched pom.xml; then
	echo "fetching Kafka's Java clients and tools" >&2
	rm -rf "$target/lib"
	mvn -q -B -f "$source/pom.xml" dependency:copy-dependencies "-DoutputDirectory=$target/lib"
	cp "$source/pom.xml" "$target/"
fi
if ! fetched package.json; then
	echo "fetching kafkajs" >&2
	cp "$source/package.json" "$target/package.json.new"
	mkdir -p "$target/npm"
	cp "$source/package.json" "$target/npm/"
	npm install --silent --no-audit --no-fund --prefix "$target/npm"
	mv "$target/package.json.new" "$target/package.json"
fi

rm -rf "$target/classes"
javac -Xlint:all -Werror -d "$target/classes" -cp "$target/lib/*" "$source"/java/*.java
