#!/bin/sh
# What the Dockerfile does, without Docker: install what is committed into an empty environment, serve a model, ask, stop.
#
#   deploy/rehearse.sh EXPORTED
set -eu
model=$(realpath "$1")
root=$(cd "$(dirname "$0")/.." && pwd)
place=$(mktemp --directory)
trap 'rm -rf "$place"' EXIT
mkdir "$place/source"
git -C "$root" archive HEAD | tar --extract --directory "$place/source"
python3.11 -m venv "$place/halfling"
cd "$place/source"
"$place/halfling/bin/pip" install --quiet --no-cache-dir --constraint constraints.txt '.[serve]'
cd "$place"
unset PYTHONPATH
"$place/halfling/bin/python" -c "import importlib.util as u; assert not u.find_spec('torch') and not u.find_spec('transformers')"
du --summarize --human-readable "$place/halfling"
"$place/halfling/bin/halfling" serve "$model" --port 0 2>"$place/log" &
service=$!
for _ in $(seq 100); do grep --quiet listening "$place/log" && break; sleep 0.2; done
address=$(sed --quiet 's/.*"address": "\([^"]*\)".*/\1/p' "$place/log")
for _ in $(seq 100); do curl --silent --fail "$address/health" >/dev/null && break; sleep 0.2; done
curl --silent --fail --header 'content-type: application/json' --data '{"inputs": "Amina anaishi Mombasa."}' "$address/"
echo
grep VmRSS "/proc/$service/status"
kill "$service"
wait "$service"
echo "stopped as asked"
