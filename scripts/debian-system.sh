#!/bin/sh
# debian-system.sh: unpacks a small Debian with Python and systemd, in which `make test-deployment` builds the image
# and boots the unit. Returns at once where it exists. Prints the folder.
#
# DEBIAN_SYSTEM=DIR  the target; default: attune-mq/debian in XDG_CACHE_HOME or ~/.cache
# DEBIAN_MIRROR=URL  the mirror; default: http://deb.debian.org/debian
set -eu
. "$(dirname "$0")/messages.sh"

system=${DEBIAN_SYSTEM:-${XDG_CACHE_HOME:-$HOME/.cache}/attune-mq/debian}
mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}
packages=ca-certificates,dbus,python3,python3-venv,systemd

unpack() {
    rm -rf --one-file-system "$system.partial" && mkdir -p "$system.partial" &&
        debootstrap --variant=minbase --include="$packages" bookworm "$system.partial" "$mirror" &&
        rm -rf "$system.partial/var/cache/apt/archives" "$system.partial/var/lib/apt/lists"
}

[ "$(id -u)" -eq 0 ] || fail "Images are built and systemd is booted as root here: call make as root."
for program in debootstrap buildah; do
    command -v "$program" >/dev/null 2>&1 || sh "$(dirname "$0")/apt-install.sh" "$program" || fail \
"$program is needed: apt-get install debootstrap buildah"
done
mkdir -p "$(dirname "$system")"
exec 9>"$system.lock"
flock 9  # another call may be unpacking the same
if [ ! -d "$system" ]; then
    say "Unpacking Debian into $system, once; this takes a minute or two."
    if ! unpack >"$system.log" 2>&1 </dev/null; then
        tail -n 20 "$system.log" >&2
        fail "Debian could not be unpacked; the last words of $system.log are above."
    fi
    mv "$system.partial" "$system"
fi
echo "$system"
