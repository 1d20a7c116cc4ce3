#!/bin/sh
# `npm run demo`: set-up, then the demo. Arguments go to `mptun demo` (npm run demo -- --json).
set -eu
cd "$(dirname "$0")/.."
command -v ip >/dev/null || { echo 'demo: iproute2 is missing (Debian: sudo apt-get install iproute2)' >&2; exit 1; }
sh scripts/setup.sh >&2
exec node bin/mptun demo "$@"
