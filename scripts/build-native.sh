#!/bin/sh
# Builds the N-API addon with nothing but a C compiler; headers come from the npm package node-api-headers.
set -eu
cd "$(dirname "$0")/.."
mkdir -p build
out=build/mptun_native.node
for f in src/native/addon/*.c src/native/addon/*.h; do
  [ -e "$f" ] || exit 0
  [ -e "$out" ] && [ "$out" -nt "$f" ] || need=1
done
[ "${need:-0}" = 1 ] || exit 0
# -z now: a function that this node does not export is told of when the addon is loaded, by name.
exec ${CC:-cc} -std=gnu11 -O2 -g -Wall -Wextra -Werror -fPIC -shared -Wl,-z,now -I node_modules/node-api-headers/include \
  -o "$out" src/native/addon/*.c
