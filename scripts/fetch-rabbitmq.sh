#!/bin/sh
# fetch-rabbitmq.sh SUITE...: unpacks Debian suites with their RabbitMQ, one folder each, for `make test-matrix`:
# trixie has 4.0, forky 4.3. Skips a suite that exists.
#
# RABBITMQ_SUITES=DIR  the target; default: attune-mq/rabbitmq in XDG_CACHE_HOME or ~/.cache
# DEBIAN_MIRROR=URL    the mirror; default: http://deb.debian.org/debian
#
# It needs root (or sudo) on Debian or Ubuntu, and resumes an interrupted call: downloaded packages stay. It runs in a
# mount namespace of its own, so nothing stays mounted, even if it is killed.
set -eu
. "$(dirname "$0")/messages.sh"

suites_folder=${RABBITMQ_SUITES:-${XDG_CACHE_HOME:-$HOME/.cache}/attune-mq/rabbitmq}
mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}
mirror_may_be_old='-o Acquire::Check-Valid-Until=false'  # its signatures are checked all the same

is_there() {
    [ -e "$suites_folder/$1/usr/lib/rabbitmq/bin/rabbitmq-server" ]
}

all_there() {
    for suite; do
        is_there "$suite" || return 1
    done
}

become_root() {
    [ "$(id -u)" -ne 0 ] || return 0
    command -v sudo >/dev/null 2>&1 || fail "Unpacking a Debian suite needs root: call make as root."
    exec sudo RABBITMQ_SUITES="$suites_folder" DEBIAN_MIRROR="$mirror" sh "$0" "$@"
}

enter_mount_namespace() {
    [ -z "${ATTUNE_OWN_MOUNTS:-}" ] || return 0
    ATTUNE_OWN_MOUNTS=yes exec unshare --mount --propagation private sh "$0" "$@"
}

bootstrap_script() {
    # A debootstrap older than the suite knows it not by name; sid's script does for all later ones.
    for known in "$1" sid; do
        [ ! -e "/usr/share/debootstrap/scripts/$known" ] || break
    done
    echo "/usr/share/debootstrap/scripts/$known"
}

bootstrap() {
    [ ! -e "$partial/.bootstrapped" ] || return 0
    rm -rf --one-file-system "$partial" && mkdir -p "$partial" "$packages" &&
        debootstrap --variant=minbase --cache-dir="$packages" \
            "$1" "$partial" "$mirror" "$(bootstrap_script "$1")" &&
        touch "$partial/.bootstrapped"
}

in_suite() {
    DEBIAN_FRONTEND=noninteractive LC_ALL=C chroot "$partial" "$@"
}

name_localhost() {
    # Not every suite has this file from the start, and a node looks its own host up.
    [ -s "$partial/etc/hosts" ] || printf '127.0.0.1 localhost\n::1 localhost\n' >"$partial/etc/hosts"
}

install_rabbitmq() {
    printf '#!/bin/sh\nexit 101\n' >"$partial/usr/sbin/policy-rc.d" &&  # no service is started
        chmod 755 "$partial/usr/sbin/policy-rc.d" &&
        { mountpoint -q "$partial/proc" || mount -t proc proc "$partial/proc"; } &&
        name_localhost &&
        in_suite dpkg --configure -a &&
        in_suite apt-get -q -y $mirror_may_be_old update &&
        in_suite apt-get -q -y -o Dpkg::Use-Pty=0 -o Acquire::Retries=3 \
            --no-install-recommends --fix-broken install rabbitmq-server &&
        in_suite apt-get clean &&
        umount "$partial/proc"
}

fetch() {
    partial=$suites_folder/$1.partial
    packages=$suites_folder/$1.packages
    say "Fetching RabbitMQ from Debian's $1 into $suites_folder/$1, once; this takes some minutes."
    if ! { bootstrap "$1" && install_rabbitmq; } >"$suites_folder/$1.log" 2>&1 </dev/null; then
        tail -n 20 "$suites_folder/$1.log" >&2
        fail "Debian's $1 could not be unpacked; the last words of $suites_folder/$1.log are above."
    fi
    mv "$partial" "$suites_folder/$1"
    rm -rf "$packages"
}

[ $# -gt 0 ] || fail "Name the suites of Debian to fetch: fetch-rabbitmq.sh trixie forky"
! all_there "$@" || exit 0
become_root "$@"
command -v debootstrap >/dev/null 2>&1 || sh "$(dirname "$0")/apt-install.sh" debootstrap || fail \
"debootstrap is needed to unpack Debian's suites: sudo apt-get install debootstrap"
enter_mount_namespace "$@"
mkdir -p "$suites_folder"
exec 9>"$suites_folder/.lock"
flock 9  # another call may be fetching the same
for suite; do
    is_there "$suite" || fetch "$suite"
done
