#!/bin/sh
# test-matrix.sh [ARGUMENTS OF PYTEST]: runs the tests on the RabbitMQ of each of several Debian suites, one after
# the other, all of them even if one fails, and ends with a line for each.
#
# SUITES="installed trixie forky"  the suites; `installed` is the RabbitMQ of this machine, the others are fetched
# RABBITMQ_SUITES=DIR              folder of the fetched suites; see fetch-rabbitmq.sh
set -eu
cd "$(dirname "$0")/.."
. scripts/messages.sh

export RABBITMQ_SUITES="${RABBITMQ_SUITES:-${XDG_CACHE_HOME:-$HOME/.cache}/attune-mq/rabbitmq}"
python=${VENV:-.venv}/bin/python
export CLUSTER_ROUNDS="${CLUSTER_ROUNDS:-3}"  # how often each node of a cluster fails in each way
results=
failed=

fetch_all() {
    for suite in $suites; do
        [ "$suite" = installed ] || sh scripts/fetch-rabbitmq.sh "$suite"
    done
}

root_of() {
    [ "$1" = installed ] || echo "$RABBITMQ_SUITES/$1"
}

run_tests() {
    suite=$1
    shift
    say "Running the tests on the RabbitMQ of: $suite"
    if RABBITMQ_TEST_ROOT=$(root_of "$suite") "$python" -m pytest "$@"; then
        results="$results $suite:passed"
    else
        results="$results $suite:FAILED"
        failed=yes
    fi
}

suites=${SUITES:-installed trixie forky}
fetch_all
for suite in $suites; do
    run_tests "$suite" "$@"
done
for result in $results; do
    say "$result"
done
[ -z "$failed" ]
