#!/bin/sh
# Ensures that RabbitMQ's server program is installed; the demo and the tests start private nodes
# on free ports of the loopback address. Installs it where apt and root (or sudo) are available.
#
# With --or-url, ATTUNE_MQ_URL suffices: that broker is used, and none has to be installed.
set -eu
cd "$(dirname "$0")/.."
. scripts/messages.sh

has_server() {
    # Where attune_mq.broker.embedded looks, too.
    PATH=/usr/lib/rabbitmq/bin:/opt/homebrew/sbin:/usr/local/sbin:/opt/rabbitmq/sbin:$PATH
    command -v rabbitmq-server >/dev/null 2>&1
}

advice() {
    cat <<'TEXT'
RabbitMQ is needed and `rabbitmq-server` is not on this machine. Any of these helps:

  Debian, Ubuntu   sudo apt-get install rabbitmq-server
  Fedora           sudo dnf install rabbitmq-server
  macOS            brew install rabbitmq
TEXT
    if [ "$1" = --or-url ]; then
        cat <<'TEXT'
  Docker           docker run -d --rm -p 5672:5672 rabbitmq:4
                   export ATTUNE_MQ_URL=amqp://guest:guest@localhost:5672/%2F
  a broker         export ATTUNE_MQ_URL=amqp://USER:PASSWORD@HOST:5672/VHOST
TEXT
    else
        cat <<'TEXT'

The tests start nodes of their own, so a broker elsewhere (a container, a URL) does not do for them.
TEXT
    fi
    printf '\nThen call make again.'
}

mode=${1:-}
if [ "$mode" = --or-url ] && [ -n "${ATTUNE_MQ_URL:-}" ]; then
    exit 0
fi
has_server && exit 0
sh scripts/apt-install.sh rabbitmq-server || fail "$(advice "$mode")"
has_server || fail "$(advice "$mode")"
