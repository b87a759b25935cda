#!/usr/bin/env bash
# Power cuts and failing disks under a real file system: ext4 and xfs on a block
# device whose writes and flushes are recorded, or fail (tests/blockdev.py).
# blockdev.sh BUILD; BLOCKDEV_POINTS (40) images per file system and journal mode,
# BLOCKDEV_ROWS (150) rows that each commit changes, PAGEDB_SEED=n repeats a run's
# choices. Exit code 3: it cannot run here, and why.
set -u
build=$(cd "${1:-build}" && pwd)
missing=
[ "$(id -u)" -eq 0 ] || missing="$missing
  root: to attach loop devices and to mount"
for need in qemu-storage-daemon:qemu-system-common losetup:mount mkfs.ext4:e2fsprogs \
  mkfs.xfs:xfsprogs fusermount3:fuse3 filefrag:e2fsprogs /usr/bin/python3:python3; do
  command -v "${need%%:*}" >/dev/null || missing="$missing
  ${need%%:*}: package ${need##*:}"
done
[ -c /dev/fuse ] || missing="$missing
  /dev/fuse: the kernel's FUSE"
[ -e /dev/loop-control ] || missing="$missing
  /dev/loop-control: the kernel's loop devices"
for fs in ext4 xfs; do
  grep -qw $fs /proc/filesystems || modprobe $fs 2>/dev/null || missing="$missing
  $fs: the kernel does not know it"
done
if [ -n "$missing" ]; then
  echo "skipped blockdev: this is missing:$missing"
  exit 3
fi
exec /usr/bin/python3 "$(dirname "$0")/blockdev.py" "$build"
