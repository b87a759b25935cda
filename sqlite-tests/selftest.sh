#!/usr/bin/env bash
# Tests the runner and the judge on a testfixture of our own that fails in every
# way there is: selftest.sh. Exit: 0 ok, 1 not.
set -u
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/h/expected" "$work/tree/test"
cp "$here/judge.tcl" "$here/run.tcl" "$work/h"
cat >"$work/fixture" <<'EOT'
#!/usr/bin/env bash
# fixture one.tcl TREE list SUITE | fixture one.tcl TREE run SUITE FILE
[ "$3" = list ] && { printf '%s\n' fine.test fails.test leaks.test hidden.test dies.test hangs.test; exit; }
case $5 in
fine.test) echo "a-1... Ok"; echo "0 errors out of 3 tests on here" ;;
fails.test)
  printf 'b-1...\n! b-1 expected: [1]\n! b-1 got:      [2]\nb-2...\n! b-2 expected: [x]\n! b-2 got:      [at 17:05]\n'
  printf '2 errors out of 4 tests on here\n!Failures on these tests: b-1 b-2\n'
  exit 1 ;;
leaks.test) echo "0 errors out of 2 tests on here"; echo "Unfreed memory: 8 bytes in 1 allocations"; exit 1 ;;
hidden.test)
  printf 'd-1...\n! d-1 expected: [1]\n! d-1 got:      [2]\n1 errors out of 2 tests on here\n!Failures on these tests: d-1\n'
  echo "SUMMARY: AddressSanitizer: heap-use-after-free"
  exit 1 ;;
dies.test) echo "e-1... Ok"; kill -SEGV $$ ;;
hangs.test) echo "f-1... Ok"; printf 'f-2...'; sleep 60 ;;
esac
EOT
chmod +x "$work/fixture"
failed=0
passed=0

# check WHAT COMMAND...
check() {
  local what=$1
  shift
  if "$@" >/dev/null; then
    passed=$((passed + 1))
  else
    echo "FAIL  selftest: $what"
    failed=$((failed + 1))
  fi
}

SUITE_TIMEOUT=2 timeout 60 "$work/h/run.tcl" "$work/fixture" "$work/tree" "$work/out" s >"$work/log" 2>&1 </dev/null
check "runs to its end" [ $? -eq 0 ]
judge() {
  printf '%b' "$1" >"$work/h/expected/9.txt"
  "$work/h/judge.tcl" "$work/out" 9 stamped >"$work/judged" 2>&1
}
has() { grep -qF -- "$1" "$work/judged"; }
all='*/*\tfails.test\tb-1\tsize\t1\t1\t2\n*/*\tfails.test\tb-2\tsize\t1\tx\t~at ??:??\n'
all+='*/*\tleaks.test\tleaks.test-complained\tsize\t1\t\t~Unfreed *\n*/*\thidden.test\td-1\tsize\t1\t1\t2\n'
all+='*/*\thidden.test\thidden.test-complained\tsize\t1\t\t~*Sanitizer*\n'
all+='*/*\tdies.test\tdies.test-aborted\tsize\t1\t\t\n*/*\thangs.test\thangs.test-timeout\tsize\t1\t\t\n'
judge "$all"
check "all are listed" [ $? -eq 0 ]
check "the sum" has "10 passed, 0 failed, 7 expected to differ"
check "the hung test is named" grep -q 'hangs.test (s) ran longer than 2 s.*f-2' "$work/log"
judge ''
check "none is listed" has " 7 failed"
judge "${all/b-1\\tsize\\t1\\t1\\t2/b-1\\tsize\\t1\\t1\\t3}"
check "another value than listed" has "differs   s fails.test b-1"
judge "$all*/*\tfine.test\ta-1\tsize\t1\t1\t2\n"
check "listed and passes" has "passes    s fine.test a-1"
judge "${all/b-2/b-*}*/*\tfine.test\ta-*\tsize\t1\t1\t2\n"
check "a glob need not differ" [ $? -eq 0 ]
"$work/h/run.tcl" "$work/fixture" "$work/tree" "$work/out" s fine.test none.test >"$work/judged" 2>&1
check "a pattern without a file" has "matches none.test"
sed -i 's/^  set n 0$/  error broken/' "$work/h/run.tcl"
timeout 30 "$work/h/run.tcl" "$work/fixture" "$work/tree" "$work/out" s fine.test >"$work/log" 2>&1
check "an error of the runner's own" [ $? -eq 1 ]
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
