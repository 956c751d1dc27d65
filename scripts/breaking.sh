#!/bin/sh
# Compares the contracts with those that landed last: only compatible changes pass. usage: breaking.sh [REF]
# What landed last is origin/main where this checkout is ahead of it; in a checkout of main itself, the newest commit
# that is 4 hours older than this one (changes land whole, and take less). Without such a commit there is nothing to break.
set -eu
cd "$(git rev-parse --show-toplevel)"
ref=${1:-}
if [ -z "$ref" ]; then
    ref=$(git merge-base HEAD origin/main 2>/dev/null || true)
    if [ -z "$ref" ] || [ "$ref" = "$(git rev-parse HEAD)" ]; then
        ref=$(git rev-list -1 --before="$(($(git log -1 --format=%ct) - 14400))" HEAD)
    fi
fi
if [ -z "$ref" ] || ! git cat-file -e "$ref:proto/buf.yaml" 2>/dev/null; then
    echo "no contracts landed before: nothing to compare with"
    exit 0
fi
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
git archive "$ref" proto scripts/gen.py | tar -x -C "$scratch"
.venv/bin/python "$scratch/scripts/gen.py" --image "$scratch/before.binpb"
.venv/bin/python scripts/gen.py --image "$scratch/now.binpb"
.venv/bin/buf breaking "$scratch/now.binpb" --against "$scratch/before.binpb" --config proto/buf.yaml
