#!/bin/sh
# sector4k.sh [build/normal] - tests of the VFS on a device with sectors of 4096
# bytes (4Kn): a loop device over a file, with ext4 on it. There the kernel refuses
# Direct I/O that is not aligned to 4096.
#
# Needs root, losetup with --sector-size, mkfs.ext4, and a kernel that lets us mount.
# Where one is missing it says so and ends with 77; most containers are such places.
# What needs no such device of this is in test_vfs_sector itself.
set -u
build=${1:-build/normal}
dir=$(mktemp -d) || exit 2
loop=

clean()
{
  umount "$dir/mnt" 2>/dev/null
  [ -n "$loop" ] && losetup -d "$loop" 2>/dev/null
  rm -rf "$dir"
}
trap clean EXIT
trap 'exit 2' INT TERM

skipped()
{
  echo "skipped sector4k: $1"
  exit 77
}

[ "$(id -u)" = 0 ] || skipped "not root"
command -v losetup >/dev/null || skipped "no losetup"
command -v mkfs.ext4 >/dev/null || skipped "no mkfs.ext4"
mkdir "$dir/mnt"
truncate -s 2G "$dir/image" || skipped "no room"
loop=$(losetup --show -f --sector-size 4096 "$dir/image" 2>/dev/null) || {
  loop=
  skipped "no loop device with sectors of 4096 bytes"
}
[ "$(blockdev --getss "$loop" 2>/dev/null)" = 4096 ] ||
  skipped "the loop device does not have sectors of 4096 bytes"
mkfs.ext4 -q "$loop" >/dev/null 2>&1 || skipped "mkfs.ext4 failed"
mount "$loop" "$dir/mnt" 2>/dev/null || skipped "cannot mount"

rc=0
for test in test_vfs_sector test_vfs_equal test_vfs_life; do
  if PAGEDB_TEST_DIR=$dir/mnt PAGEDB_TEST_SCALE=small "$build/$test" \
    >"$dir/log" 2>&1 </dev/null; then
    echo "ok    $test on sectors of 4096 bytes"
  else
    cat "$dir/log"
    echo "FAILED $test on sectors of 4096 bytes"
    rc=1
  fi
done
exit $rc
