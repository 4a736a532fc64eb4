#!/bin/sh
# Ensures that the tests can check deploy/prometheus/alerts.yml with Prometheus's promtool. Where it is
# missing and apt is available, it is extracted from the distribution's package into .cache: nothing is installed.
#
# Otherwise those tests are skipped, with the reason; no other test depends on it.
set -eu
cd "$(dirname "$0")/.."
. scripts/messages.sh

place=.cache/prometheus

has_promtool() {
    command -v promtool >/dev/null 2>&1 || [ -x "$place/usr/bin/promtool" ]
}

fetch() {
    (cd "$place" && apt-get -q download prometheus && dpkg -x prometheus_*.deb . && rm -f prometheus_*.deb)
}

update() {
    if [ "$(id -u)" -eq 0 ]; then apt-get -q update; else sudo -n apt-get -q update; fi
}

has_promtool && exit 0
if command -v apt-get >/dev/null 2>&1 && command -v dpkg >/dev/null 2>&1; then
    mkdir -p "$place"
    fetch >/dev/null 2>&1 </dev/null || { update && fetch; } >/dev/null 2>&1 </dev/null || true
fi
has_promtool || say "promtool is missing (Debian: prometheus, macOS: brew install prometheus): alerts are not checked."
