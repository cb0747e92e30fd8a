#!/usr/bin/env bash
# Runs every fuzz target of the module, one after the other, for the time given
# as the first argument. Go fuzzes one target of one package at a time.
set -euo pipefail
cd "$(dirname "$0")/.."
time=${1:-20s}

grep -rlE '^func Fuzz' --include='*_test.go' . | while read -r file; do
	sed -nE 's/^func (Fuzz[A-Za-z0-9_]*)\(.*/\1/p' "$file" | while read -r target; do
		echo "== $(dirname "$file") $target"
		go test -run='^$' -fuzz="^${target}\$" -fuzztime="$time" "./$(dirname "$file")" </dev/null
	done
done
