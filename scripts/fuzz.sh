#!/bin/sh
# Fuzzes each target in turn, guided by coverage, starting from tests/fuzzing/corpus.
#
# DURATION=60  seconds for each target     TARGETS="topology envelope"  which
# Inputs that reach new code are kept in .cache/fuzz for the next run.
set -eu
cd "$(dirname "$0")/.."
. scripts/messages.sh

python=${VENV:-.venv}/bin/python
"$python" -c 'import atheris' 2>/dev/null ||
    "$python" -m pip install -qq --disable-pip-version-check --constraint constraints.txt --group fuzz ||
    fail "atheris could not be installed; it needs Linux and Python 3.11 to 3.13."
for target in ${TARGETS:-topology envelope headers definitions}; do
    say "Fuzzing $target for ${DURATION:-60} s"
    mkdir -p ".cache/fuzz/$target" "tests/fuzzing/corpus/$target"
    "$python" -m tests.fuzzing.run "$target" ".cache/fuzz/$target" "tests/fuzzing/corpus/$target" \
        -max_total_time="${DURATION:-60}" -timeout=10 -rss_limit_mb=1024 -max_len=65536 -print_final_stats=0 "$@" || fail \
"The target $target failed on the bytes in the file crash-… (or timeout-…, oom-…) named above."
done
