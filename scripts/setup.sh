#!/bin/sh
# Makes a clone ready to run: npm packages, native addon, TypeScript. Does only what is missing, so running it again is
# quick. Needs Node >= 20.19, npm and a C compiler; nothing is installed outside this directory.
set -eu
cd "$(dirname "$0")/.."

say() { printf 'setup: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

command -v node >/dev/null || fail "Node 20 is missing (Debian: sudo apt-get install nodejs npm)"
node -e 'const [a, b] = process.versions.node.split("."); process.exit(a > 20 || (a == 20 && b >= 19) ? 0 : 1)' ||
  fail "Node $(node -v) is too old: 20.19 or newer is needed"

# A copy of the lock file tells what node_modules was made from. One that somebody linked here is theirs to keep current.
if [ ! -L node_modules ] && ! cmp -s package-lock.json node_modules/.made-from-lock.json; then
  say "installing npm packages"
  npm ci --no-audit --no-fund --loglevel=error >&2
  cp package-lock.json node_modules/.made-from-lock.json
fi
command -v "${CC:-cc}" >/dev/null || fail "a C compiler is missing (Debian: sudo apt-get install gcc libc6-dev)"
[ -e build/mptun_native.node ] && [ -e dist/src/cli/main.js ] || say "compiling the native addon and the TypeScript"
sh scripts/build-native.sh || fail "the native addon does not build"
node_modules/.bin/tsc -b || fail "the TypeScript does not compile"
