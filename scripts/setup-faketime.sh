#!/bin/sh
# Installs libfaketime, with which the soak sets the clock of a process, where apt and root (or sudo) are available;
# elsewhere that fault is left out.
set -eu
cd "$(dirname "$0")/.."
. scripts/messages.sh

has_library() {
    # Where tests/faults/clock.py looks, too.
    for file in /usr/lib/*/faketime/libfaketimeMT.so.1 /usr/lib/faketime/libfaketimeMT.so.1 \
        /usr/local/lib/faketime/libfaketimeMT.so.1; do
        [ ! -e "$file" ] || return 0
    done
    return 1
}

has_library || sh scripts/apt-install.sh libfaketime || true
has_library || say "No clock will jump: libfaketime is not on this machine."
