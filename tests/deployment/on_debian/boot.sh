#!/bin/sh
# boot.sh ROOT CGROUP: systemd as the first process of a system of its own in the folder ROOT. It shares nothing
# with this one but the network, and is gone, with all its processes, when this script is killed.
set -eu
mkdir -p "$2"
echo $$ >"$2/cgroup.procs"
export root="$1"
exec unshare --pid --fork --kill-child --mount --uts --ipc --cgroup --propagation private sh -euc '
mount --bind "$root" "$root"
cd "$root"
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 none sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=755 tmpfs dev
mknod -m 666 dev/null c 1 3
mknod -m 666 dev/zero c 1 5
mknod -m 666 dev/full c 1 7
mknod -m 666 dev/random c 1 8
mknod -m 666 dev/urandom c 1 9
mknod -m 666 dev/tty c 5 0
mkdir dev/pts dev/shm dev/mqueue run/old
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
mount -t tmpfs tmpfs dev/shm
mount -t mqueue mqueue dev/mqueue
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
hostname debian
pivot_root . run/old
umount -l run/old
mount --make-rshared /  # credentials are mounted by a child, for all
exec env -i container=attune PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --system --unit=basic.target
'
