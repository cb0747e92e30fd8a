#!/usr/bin/env bash
# Plants the bugs of tools/mutations.txt, one after the other, in a copy of the last
# commit, and lets random Worlds find each: tools/mutate.sh [seeds (400)] [name].
# Prints how many seeds it took, and fails if one was not found.
set -euo pipefail
cd "$(dirname "$0")/.."
seeds=${1:-400} only=${2:-}
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
git archive HEAD | tar -x -C "$copy"

# hunt prints the first seed that fails; seeds run in groups, so that a bug that is
# found at once takes a moment. With an argument it runs that scenario.
hunt() {
	local from=1 group=20 found
	while [[ -n ${1:-} ]] && ((from <= seeds)); do
		(cd "$copy/testkit/sim" && SEED=$from timeout 600 "$copy/sim.test" \
			-test.run "^$1\$" >"$copy/out" 2>&1) || { echo "$from" && return; }
		((from += 1))
	done
	while ((from <= seeds)); do
		found=$(cd "$copy/testkit/sim" && SEED=$from COUNT=$group timeout 600 "$copy/sim.test" \
			-test.run '^TestRandomWorlds$' 2>&1 | tee "$copy/out" |
			sed -nE 's/^ *--- FAIL: TestRandomWorlds\/([0-9]+).*/\1/p' | sort -n | head -1) || true
		if [[ -n $found ]] || grep -qE '^(panic|fatal error):' "$copy/out"; then
			echo "${found:-$from}"
			return
		fi
		((from += group))
	done
}

missed=0
while IFS='|' read -r name file edit; do
	name=$(xargs <<<"$name") file=$(xargs <<<"$file")
	[[ -z $name || $name == \#* || -n $only && ${name%@*} != "$only" ]] && continue
	cp "$copy/$file" "$copy/original"
	sed -i "${edit# }" "$copy/$file"
	if cmp -s "$copy/$file" "$copy/original"; then
		echo "$name: nothing in $file matches, mend tools/mutations.txt" >&2
		exit 1
	fi
	(cd "$copy" && go test -c -vet=off -o sim.test ./testkit/sim)
	seed=$(hunt "$(sed -n 's/.*@//p' <<<"$name")")
	name=${name%@*}
	cp "$copy/original" "$copy/$file"
	if [[ -n $seed ]]; then
		printf '%-36s found by seed %s: %s\n' "$name" "$seed" \
			"$(grep -oE '(_test|sim/[a-z]+|[a-z]+)\.go:[0-9]+: .*|^panic: .*' "$copy/out" | head -1 | cut -c1-120)"
	else
		printf '%-36s NOT FOUND in %d seeds\n' "$name" "$seeds"
		missed=1
	fi
done <tools/mutations.txt
exit $missed
