#!/usr/bin/env bash
# Makes sure the Kafka clients that the end-to-end tests drive are there. As root
# on a Debian-like system it installs what is missing; elsewhere it says what to
# install.
set -euo pipefail

declare -A package=(
	[kcat]=kcat
	[kafka-python]=python3-kafka
	[confluent-kafka]=python3-confluent-kafka
)

python=/usr/bin/python3

present() {
	case $1 in
	kcat) command -v kcat ;;
	kafka-python) "$python" -c 'import kafka' ;;
	confluent-kafka) "$python" -c 'import confluent_kafka' ;;
	esac >/dev/null 2>&1
}

missing=()
for client in kcat kafka-python confluent-kafka; do
	present "$client" || missing+=("${package[$client]}")
done
((${#missing[@]})) || exit 0

if [[ $(id -u) != 0 ]] || ! command -v apt-get >/dev/null; then
	echo "The tests drive real Kafka clients, and some are not installed." >&2
	echo "On Debian or Ubuntu run: sudo apt-get install ${missing[*]}" >&2
	exit 1
fi
echo "installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
