#!/bin/sh
# Ensures that PostgreSQL's server programs are installed; the tests create clusters of their own with them.
# Installs them where apt and root (or sudo) are available.
set -eu
cd "$(dirname "$0")/.."
. scripts/messages.sh

has_server() {
    # Where tests/databases.py looks, too.
    on_path=$(command -v postgres || true)
    for programs in "${on_path%/*}" /usr/lib/postgresql/*/bin /usr/pgsql-*/bin \
        /opt/homebrew/opt/postgresql*/bin /usr/local/opt/postgresql*/bin; do
        [ ! -x "$programs/initdb" ] || [ ! -x "$programs/postgres" ] || return 0
    done
    return 1
}

advice() {
    cat <<'TEXT'
The tests need PostgreSQL and its server programs (`initdb`, `postgres`) are not on this machine.

  Debian, Ubuntu   sudo apt-get install postgresql
  Fedora           sudo dnf install postgresql-server
  macOS            brew install postgresql@17

No cluster has to be made and no service to run: the tests make one of their own. Then call make again.
TEXT
}

has_server && exit 0
sh scripts/apt-install.sh postgresql || fail "$(advice)"
has_server || fail "$(advice)"
