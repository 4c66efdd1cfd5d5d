#!/bin/bash
# Fetch kazoo, a ZooKeeper client for Python, for tests: into a directory of its own, not into the system.
#
#   kazoo-fetch.sh                          prints the directory, for PYTHONPATH
#
# COTTON_KAZOO_CACHE   where to keep it     (default ~/.cache/cotton-kazoo)
set -euo pipefail
cache=${COTTON_KAZOO_CACHE:-$HOME/.cache/cotton-kazoo}
if [ -d "$cache/kazoo" ]; then echo "$cache"; exit 0; fi
mkdir -p "$(dirname "$cache")"
work=$(mktemp -d "$cache.XXXXXX")
trap 'rm -rf "$work"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --no-deps --no-compile --target "$work" kazoo==2.11.0 >&2
chmod 755 "$work"
rm -rf "$cache"; mv "$work" "$cache"
echo "$cache"
