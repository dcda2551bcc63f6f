#!/bin/sh
# The Dockerfile without Docker: its own steps, with what is committed, in an empty environment. Then a model is served,
# asked and stopped. What is said last: the size of the environment, the health, an answer, the memory.
#
#   deploy/rehearse.sh EXPORTED
set -eu
model=$(realpath "$1")
root=$(cd "$(dirname "$0")/.." && pwd)
place=$(mktemp --directory)
service=
finish() {
  if [ -n "$service" ]; then kill "$service" 2>/dev/null || true; fi
  rm -rf "$place"
}
trap finish EXIT
fail() {
  echo "rehearse: $1" >&2
  if [ -f "$place/log" ]; then cat "$place/log" >&2; fi
  exit 1
}
unset PYTHONPATH

# COPY . . : what is committed, less what .dockerignore leaves out
mkdir "$place/source" "$place/models"
git -C "$root" archive HEAD | tar --extract --directory "$place/source"
cd "$place/source"
grep --invert-match '[*]' .dockerignore | while read -r left_out; do rm -rf "./$left_out"; done

# RUN of the first stage
steps=$(sed --quiet '/^RUN python -m venv/,/[^\\]$/p' Dockerfile)
[ -n "$steps" ] || fail "the Dockerfile makes no environment"
echo "${steps#RUN }" | sed --expression "s|/halfling|$place/halfling|g" --expression 's/^python/python3.11/' | sh -e
cd "$place"
rm -rf source/src
PATH=$place/halfling/bin:$PATH
export PATH PYTHONDONTWRITEBYTECODE=1
python -c "import importlib.util as u; assert not u.find_spec('torch') and not u.find_spec('transformers')"
du --summarize --human-readable "$place/halfling"

# The model read-only, and USER, where this one may become another that reaches Python
cp --recursive "$model" models/served
chmod --recursive a=rX "$place"
chmod u+w "$place"
user=
as="setpriv --reuid=10001 --regid=10001 --clear-groups"
if $as python -c "" 2>/dev/null; then user=$as; else echo "as this user: no other reaches this Python from here"; fi

# ENTRYPOINT, at another address
words=$(sed --quiet 's/^ENTRYPOINT \[\(.*\)\]$/\1/p' source/Dockerfile | tr --delete '",')
[ -n "$words" ] || fail "the Dockerfile has no entry point"
$user $words --host 127.0.0.1 --port 0 "$place/models/served" 2>"$place/log" &
service=$!
for _ in $(seq 150); do
  if grep --quiet listening "$place/log"; then break; fi
  kill -0 "$service" 2>/dev/null || fail "the service did not start"
  sleep 0.2
done
address=$(sed --quiet 's/.*"address": "\([^"]*\)".*/\1/p' "$place/log")
[ -n "$address" ] || fail "the service does not listen"

# HEALTHCHECK, at that address
check=$(sed --quiet 's/.*CMD \["python", "-c", "\(.*\)"\]$/\1/p' source/Dockerfile | sed "s|http://127.0.0.1:8000|$address|")
[ -n "$check" ] || fail "the Dockerfile checks no health"
for _ in $(seq 25); do
  if python -c "$check" 2>/dev/null; then
    echo "healthy"
    break
  fi
  sleep 0.2
done
curl --silent --show-error --fail-with-body --header 'content-type: application/json' \
  --data '{"inputs": "Amina anaishi Mombasa."}' "$address/" || fail "no answer"
echo
grep VmRSS "/proc/$service/status"

# STOPSIGNAL
kill -s TERM "$service"
wait "$service" || fail "the service did not stop as asked"
service=
echo "stopped as asked"
