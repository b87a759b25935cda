# shellcheck shell=bash
# Was page-db in use? Sourced by run.sh and programs.sh.

# in_use REPORT DIR PCACHE: says how many database files the processes opened that
# wrote to REPORT (glue.c), and fails unless there were some; where DIR's file
# system certainly has Direct I/O, some of them direct; and with PCACHE=1 most with
# page-db's page cache (some tests bring their own). PAGEDB_SUITE_PARENT=1 is never direct.
in_use() {
  local fs direct=no
  fs=$(stat -f -c %T "$2")
  if [ "${PAGEDB_SUITE_PARENT:-}" != 1 ]; then
    # Others may take the flag and not do it.
    case $fs in
    ext2/ext3 | xfs)
      if dd if=/dev/zero of="$2/probe" bs=4096 count=1 oflag=direct 2>/dev/null; then
        direct=yes
      fi
      rm -f "$2/probe"
      ;;
    esac
  fi
  awk -v fs="$fs" -v direct=$direct -v pcache="${3:-0}" '
    { n += $1; d += $2; p += $3 }
    END {
      print n + 0 " database files opened, " d + 0 " of them direct (" fs "), " \
        p + 0 " with the page cache"
      if (n == 0) { print "suite: page-db was not in use"; exit 1 }
      if (direct == "yes" && d == 0) { print "suite: Direct I/O was not in use"; exit 1 }
      if (pcache && 2 * p < n) { print "suite: page-db'"'"'s page cache was not in use"; exit 1 }
    }' "$1"
}
