#!/usr/bin/env bash
# Makes sure there is a consul for the tests: one on PATH, or bin/consul, built
# once from the version that tools/consul/go.mod pins (some minutes of CPU).
# Prints its path.
set -euo pipefail
cd "$(dirname "$0")/.."

if command -v consul; then
	exit
fi
if [[ ! -x bin/consul ]]; then
	mkdir -p bin
	# Packages are tested at the same time; only one of them builds.
	if command -v flock >/dev/null; then
		exec 9>bin/consul.lock
		flock 9
	fi
	if [[ ! -x bin/consul ]]; then
		echo "building bin/consul, once: this takes some minutes" >&2
		CGO_ENABLED=0 go build -modfile=tools/consul/go.mod -trimpath -ldflags '-s -w' \
			-o bin/consul.new github.com/hashicorp/consul >&2
		mv bin/consul.new bin/consul
	fi
fi
echo "$PWD/bin/consul"
