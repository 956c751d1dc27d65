#!/bin/sh
# Compares the contracts with those of a git ref: only compatible changes pass. A ref without contracts has none to break.
set -eu
ref=$1
root=$(git rev-parse --show-toplevel)
cd "$root"
if ! git rev-parse --quiet --verify "$ref^{commit}" >/dev/null || ! git cat-file -e "$ref:proto/buf.yaml" 2>/dev/null; then
    echo "no contracts at $ref: nothing to compare with"
    exit 0
fi
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
git archive "$ref" proto scripts/gen.py | tar -x -C "$scratch"
.venv/bin/python "$scratch/scripts/gen.py" --image "$scratch/before.binpb"
.venv/bin/python scripts/gen.py --image "$scratch/now.binpb"
.venv/bin/buf breaking "$scratch/now.binpb" --against "$scratch/before.binpb" --config proto/buf.yaml
