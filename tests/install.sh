#!/usr/bin/env bash
# The pages' links, here and where `make install` puts the pages; what `make
# uninstall` leaves.
# install.sh BUILD
set -u
build=$(cd "${1:-build}" && pwd)
to=$(mktemp -d "$build/install.XXXXXX")
trap 'rm -rf "$to"' EXIT
passed=0
failed=0

ok() { passed=$((passed + 1)); }
bad() { failed=$((failed + 1)) && echo "$*"; }
links() { # PAGE: what it names that is not on another site or in the page itself
  grep -oE '\]\([^)# ]+' "$1" | sed 's/^](//' | grep -vE '^[a-z]+:'
}
look() { # FOLDER: all its pages; those that others are made of have no links of their own
  local page link
  while read -r page; do
    for link in $(links "$page"); do
      if [ -e "$(dirname "$page")/$link" ]; then ok; else bad "$page: $link is not there"; fi
    done
  done < <(find "$1" \( -name build -o -name .git \) -prune -o -name '*.md' \
    ! -path '*/bench/benchmarks.*' ! -name '*.head.md' -print)
}

look .
doc=$to/usr/share/doc/pagedb
if ! make -s --no-print-directory install DESTDIR="$to" PREFIX=/usr >"$to/log" 2>&1 </dev/null; then
  echo "make install: $(cat "$to/log")"
  exit 1
fi
for page in README.md docs/*.md; do
  if cmp -s "$page" "$doc/$page"; then ok; else bad "$page was not installed"; fi
done
look "$doc"
make -s --no-print-directory uninstall DESTDIR="$to" PREFIX=/usr >"$to/log" 2>&1 </dev/null
left=$(find "$to/usr" -type f)
if [ -z "$left" ] && [ ! -e "$doc" ]; then ok; else bad "make uninstall leaves $left"; fi

[ -z "${PAGEDB_TALLY-}" ] || echo "$passed $failed" >>"$PAGEDB_TALLY"
[ "$failed" = 0 ] && echo "ok    install           $passed cases"
exit $((failed > 0))
