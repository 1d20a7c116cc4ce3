#!/bin/sh
# `npm test`: set-up, lint, then all tests; the last line is "N passed, N failed" from ava's own count. Arguments choose
# test files instead (npm test -- dist/tests/lab/*.js).
#
# Two runs: what computes uses every core; what measures real links or drives the kernel goes one file at a time, so that
# tests do not disturb each other's clocks.
set -u
cd "$(dirname "$0")/.."
sh scripts/setup.sh || exit 1
sh scripts/system-packages.sh || exit 1
npm run -s lint || exit 1

passed=0
failed=0
status=0
log=$(mktemp)
trap 'rm -f "$log"' EXIT

# TAP (ava --tap) ends with "# pass 12" and "# fail 1".
count() { sed -n "s/^# $1 \([0-9][0-9]*\)\$/\1/p" "$log" | awk '{ n += $1 } END { print n + 0 }'; }

run() {
  { node_modules/.bin/ava --tap "$@" 2>&1; echo $? >"$log.status"; } | tee "$log"
  [ "$(cat "$log.status")" = 0 ] || status=1
  rm -f "$log.status"
  passed=$((passed + $(count pass)))
  failed=$((failed + $(count fail)))
}

if [ $# -gt 0 ]; then
  run --concurrency 1 "$@"
else
  run $(find dist/tests -name '*.test.js' -not -path '*/lab/*' -not -path '*/interop/*' | sort)
  run --concurrency 1 $(find dist/tests/lab dist/tests/interop -name '*.test.js' | sort)
fi
# A run that broke without counting a failure (a crash, a time-out) is a failure all the same.
[ $status = 0 ] || [ $failed -gt 0 ] || failed=1
echo "$passed passed, $failed failed"
[ $failed = 0 ]
