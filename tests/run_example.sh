#!/usr/bin/env bash
# The example does what its expected output says, and the README shows its code.
set -eu
dir=$(mktemp -d build/example.XXXXXX)
trap 'rm -rf "$dir"' EXIT
"$1" "$dir/demo.pages" | diff - examples/substrate.expect
sed -n '/^\/\* README begin \*\/$/,/^\/\* README end \*\/$/p' examples/substrate.c |
  sed '1d;$d' >"$dir/code"
sed -n '/^```c$/,/^```$/p' README.md | sed '1d;$d' >"$dir/readme"
diff "$dir/code" "$dir/readme"
echo "ok    example"
