#!/bin/bash
# check-generate.sh - generates into a copy of the tree and compares it with gen/, so that nothing here changes.
set -euo pipefail
cd "$(dirname "$0")/.."
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
cp -r gen "$copy/committed"
make --no-print-directory generate > "$copy/log" 2>&1 || { cat "$copy/log"; exit 1; }
if ! diff -r "$copy/committed" gen > "$copy/diff"; then
	head -40 "$copy/diff"
	echo 'gen/ was not what the schema gives; it is now: commit it'
	exit 1
fi
