#!/usr/bin/env bash
# Sweeps the memory limit and prints where the chosen plan changes; fails if a choice exceeds its limit.
#   tests/sweep.sh BUNDLE [FROM_BYTES TO_BYTES STEP_BYTES]     default: 16384 262144 512
# STITCHKIT names the command; default: target/release/stitchkit
set -euo pipefail
stitchkit=${STITCHKIT:-$(dirname "$0")/../target/release/stitchkit}
bundle=$1 from=${2:-16384} to=${3:-262144} step=${4:-512}

# field NAME: a top-level number of the JSON document on standard input.
field() { sed -n "s/^  \"$1\": \([0-9]*\),*$/\1/p"; }

last="" distinct=0
for ((bytes = from; bytes <= to; bytes += step)); do
    report=$("$stitchkit" select "$bundle" --memory "$bytes" --json)
    plan=$(field plan <<<"$report")
    arena_bytes=$(field arena_bytes <<<"$report")
    if [ "$arena_bytes" -gt "$bytes" ]; then
        echo "FAIL: plan $plan needs $arena_bytes bytes, limit $bytes"
        exit 1
    fi
    if [ "$plan" != "$last" ]; then
        echo "from $bytes bytes: plan $plan with $arena_bytes bytes of arena"
        last=$plan
        distinct=$((distinct + 1))
    fi
done
echo "sweep: $distinct plans between $from and $to bytes, none above its limit"
