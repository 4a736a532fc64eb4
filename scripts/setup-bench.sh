#!/bin/sh
# Creates the environment of the benchmarks: the library, and the clients that it is compared with (.venv-bench).
# Also the C client, where apt is available, and a checkout of the version that the executor is compared with,
# where git has it. Either may be missing: the benchmark then reports what it did not measure.
set -eu
cd "$(dirname "$0")/.."
. scripts/messages.sh

venv=.venv-bench
first=8923bbd  # the first version of the executor
checkout=.cache/bench/first

wanted=$(cat pyproject.toml constraints.txt benchmarks/requirements.txt scripts/setup-bench.sh | cksum)
if [ "$(cat "$venv/.attune-setup" 2>/dev/null)" != "$wanted" ]; then
    say "Making $venv with the clients of benchmarks/requirements.txt, once; this takes about a minute."
    "$VENV/bin/python" -m venv --clear "$venv"
    set -- "$venv/bin/python" -m pip install -qq --disable-pip-version-check --constraint constraints.txt
    "$@" pip hatchling editables && "$@" --requirement benchmarks/requirements.txt &&
        "$@" --no-build-isolation --editable '.[executor,postgresql]' || fail "pip could not install it."
    printf '%s\n' "$wanted" >"$venv/.attune-setup"
fi

if command -v cc >/dev/null 2>&1 && [ ! -e /usr/include/amqp.h ] && [ ! -e /usr/include/rabbitmq-c/amqp.h ]; then
    sh scripts/apt-install.sh librabbitmq-dev || say "librabbitmq is missing: C is not measured."
fi

if [ ! -e "$checkout" ] && git cat-file -e "$first" 2>/dev/null; then
    mkdir -p "$checkout"
    git archive "$first" | tar -x -C "$checkout"
fi
