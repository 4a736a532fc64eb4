#!/bin/sh
# apt-install.sh PACKAGE...: installs packages of the distribution. No service is started, now or at boot.
#
# Exits with 3, silently, where there is no apt, or neither root nor sudo: the caller prints the advice.
set -eu
. "$(dirname "$0")/messages.sh"

policy=/usr/sbin/policy-rc.d  # what Debian asks before it starts a service; 101 is "do not"
services='rabbitmq-server.service postgresql.service epmd.service epmd.socket'  # what could come along
off_so_far=
our_policy=
log=

become_root() {
    [ "$(id -u)" -ne 0 ] || return 0
    command -v sudo >/dev/null 2>&1 || exit 3
    if ! sudo -n true 2>/dev/null; then
        [ -t 0 ] || exit 3  # sudo would ask for a password, and there is nobody to answer
    fi
    exec sudo sh "$0" "$@"
}

clean_up() {
    [ -z "$our_policy" ] || rm -f "$policy"
    [ -z "$log" ] || rm -f "$log"
}

forbid_starting_services() {
    [ ! -e "$policy" ] || return 0
    our_policy=yes
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
}

install_packages() {
    # A foreign source that is away makes update fail; what we want may well be there all the same.
    apt-get -q -o DPkg::Lock::Timeout=300 update || true
    DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends \
        -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 install "$@"
}

note_services_off_so_far() {
    for service in $services; do
        systemctl is-enabled --quiet "$service" 2>/dev/null || off_so_far="$off_so_far $service"
    done
}

keep_them_off_at_boot() {
    for service in $off_so_far; do
        systemctl disable --quiet "$service" 2>/dev/null || true
    done
}

command -v apt-get >/dev/null 2>&1 || exit 3
become_root "$@"
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

say "Installing $* with apt, once; this can take some minutes. No service is started."
log=$(mktemp)
note_services_off_so_far
forbid_starting_services
if ! install_packages "$@" >"$log" 2>&1 </dev/null; then
    tail -n 30 "$log" >&2
    say "apt could not install $*; its last words are above."
    exit 1
fi
keep_them_off_at_boot
