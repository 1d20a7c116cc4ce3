#!/bin/sh
# `npm test`: set-up, lint, then all tests; the last line is "N passed, N failed" from ava's own count. Arguments choose
# test files instead (npm test -- dist/tests/lab/*.js).
#
# What computes (unit, sim, fuzz) uses every core, in one run, and small files share threads (see share); what drives the
# kernel mostly waits, and does so on every core and one more; what drives daemons, on every core. What measures real links
# goes one file at a time, so that tests do not disturb each other's clocks. Files of all but the first kind that fail are
# run once more, alone, because their budgets (milliseconds on links of known rate) suppose a machine that is not busy with
# something else. The first failure stays in the output, and the second one counts.
set -u
cd "$(dirname "$0")/.."
sh scripts/setup.sh || exit 1
sh scripts/system-packages.sh || exit 1
npm run -s lint || exit 1

passed=0
failed=0
log=$(mktemp)
unshare() { find dist/tests -name 'all-[0-9].test.js' -delete; }
trap 'rm -f "$log" "$log.status" "$log.bad"; unshare' EXIT
unshare

# TAP (ava --tap) ends with "# pass 12" and "# fail 1".
count() { sed -n "s/^# $1 \([0-9][0-9]*\)\$/\1/p" "$log" | awk '{ n += $1 } END { print n + 0 }'; }

# Runs ava on the files; its status is the result.
run() {
  began=$(date +%s)
  { node_modules/.bin/ava --tap --concurrency "$@" 2>&1; echo $? >"$log.status"; } | tee "$log"
  [ $# -gt 2 ] && what="$(($# - 1)) files" || what=$2
  echo "# $what: $(($(date +%s) - began)) s"
  return "$(cat "$log.status")"
}

# Adds what the last run counted. A run that broke without counting a failure (a crash, a time-out) is a failure as well.
add() {
  passed=$((passed + $(count pass)))
  n=$(count fail)
  [ "$1" = 0 ] || [ "$n" -gt 0 ] || n=1
  failed=$((failed + n))
}

# The files of the last run's results, a line for each test; for files of one directory ava writes "ok 7 - policy › title".
files() {
  sed -nE -e "s,^$1 [0-9]+ - ([a-z0-9-]+) › .*,$2/\\1.test.js,p" \
    -e "s,^$1 [0-9]+ - (dist/tests/[^ ]+\\.test\\.js) .*,\\1,p" "$log"
}

measure() {
  for file in "$@"; do
    if ! run 1 "$file"; then
      echo "# $file failed: once more, in case the machine was busy (load $(cut -d ' ' -f 1 /proc/loadavg))"
      run 1 "$file"
    fi
    add $?
  done
}

# Side by side, all of one directory, and those that fail once more, alone.
drive() {
  if run "$@"; then
    add 0
    return
  fi
  shift
  dir=$(dirname "$1")
  files 'not ok' "$dir" | sort -u >"$log.bad"
  [ -s "$log.bad" ] || printf '%s\n' "$@" >"$log.bad"
  passed=$((passed + $(files ok "$dir" | grep -cvxFf "$log.bad")))
  echo "# failed: once more, alone (load $(cut -d ' ' -f 1 /proc/loadavg)):" $(cat "$log.bad")
  measure $(cat "$log.bad")
}

# share DIRECTORY N: prints what to run in place of its test files. To begin a thread (load the modules, compile them,
# optimize them again) costs more than most files' tests, so N files that import others (all-1.test.js, ...) stand for all
# but those that have hooks or that wait for something, which others would delay, those whose snapshots are found by the
# name of their file, and those that take long ($heavy).
share() {
  find "$1" -maxdepth 1 -name '*.test.js' | sort >"$log.bad"
  alone=$(xargs grep -lE 'async |await |test\.(before|after|serial)|\.snapshot\(' <"$log.bad"; grep -E "/($heavy)\.test" "$log.bad")
  printf '%s\n' $alone
  grep -vxF -e '' -e "$alone" "$log.bad" | awk -v n="$2" -v dir="$1" '{
    all = dir "/all-" (NR % n + 1) ".test.js"
    if (NR <= n) print all
    sub(".*/", "./")
    print "import \047" $0 "\047;" >all
  }'
}

if [ $# -gt 0 ]; then
  measure "$@"
else
  heavy='catalogue|fairness|one-path|two-paths'
  run "$(nproc)" $(share dist/tests/sim 2) dist/tests/fuzz/*.test.js dist/tests/unit/*.test.js \
    $(for dir in dist/tests/unit/*/; do share "${dir%/}" 1; done)
  add $?
  measuring='bench|demo|emulator|handover-receipt'
  drive $(($(nproc) + 1)) $(find dist/tests/interop -name '*.test.js' | sort)
  # Those that take longest go first, lest one of them goes on when all others are done.
  drive "$(nproc)" dist/tests/lab/tunnel.test.js dist/tests/lab/catalogue-own.test.js dist/tests/lab/applications.test.js \
    $(find dist/tests/lab -name '*.test.js' |
      grep -Ev "/lab/($measuring|tunnel|catalogue-own|applications)\\.test" | sort)
  measure $(find dist/tests/lab -name '*.test.js' | grep -E "/lab/($measuring)\\.test" | sort)
fi
echo "$passed passed, $failed failed"
[ $failed = 0 ]
