#!/usr/bin/env bash
# One inference on several threads: the same bytes as on one, for every plan of the bundles given, and what it gains.
#
#   tests/threads.sh BUNDLE...
#
# Prints elapsed and processor time of the costliest plan of every bundle and of the plan called resnet-8, if there is one, on 1,
# 2, ... threads side by side in one run. The fastest inference of many rounds counts, since other work on the machine only slows
# down.
#
# Environment:
#   STITCHKIT_THREADS_TIME   0 leaves out the timing; default 1
#   STITCHKIT_THREADS_MOST   most threads to time; default: the processors
#   STITCHKIT_THREADS_ISA    kernel variant to time; default: the fastest
#   STITCHKIT_THREADS_ROUNDS rounds; default 200
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
target_dir=$(realpath -m "${CARGO_TARGET_DIR:-$root/target}")
device=$target_dir/release/stitchkit-device
[ $# -gt 0 ] || { echo "which bundles?" >&2; exit 2; }
(cd "$root" && CARGO_TARGET_DIR=$target_dir cargo build --quiet --release -p stitchkit-device)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Three inputs, cut from the bundle itself.
inputs() {
    local bytes
    bytes=$("$device" "$1" --list --json | sed -E 's/.*"input_bytes":([0-9]+).*/\1/')
    : >"$work/inputs"
    while [ "$(wc -c <"$work/inputs")" -lt $((3 * bytes)) ]; do cat "$1" >>"$work/inputs"; done
    truncate -s $((3 * bytes)) "$work/inputs"
}

for bundle in "$@"; do
    inputs "$bundle"
    plans=$("$device" "$bundle" --list --json | grep -o '"plan":[0-9]*' | cut -d: -f2)
    count=0
    for plan in $plans; do
        "$device" "$bundle" --plan "$plan" --input "$work/inputs" >"$work/one" 2>/dev/null
        [ "$(wc -l <"$work/one")" -eq 3 ] || { echo "$bundle, plan $plan: three lines expected" >&2; exit 1; }
        for threads in 2 3 4; do
            "$device" "$bundle" --plan "$plan" --input "$work/inputs" --threads $threads >"$work/several" 2>/dev/null
            cmp "$work/one" "$work/several" || { echo "$bundle, plan $plan: $threads threads differ" >&2; exit 1; }
        done
        count=$((count + 1))
    done
    echo "$(basename "$bundle"): $count plans, the same bytes on 1, 2, 3 and 4 threads"
done

[ "${STITCHKIT_THREADS_TIME:-1}" = 1 ] || exit 0
options=(--threads "${STITCHKIT_THREADS_MOST:-auto}" --rounds "${STITCHKIT_THREADS_ROUNDS:-200}")
[ -z "${STITCHKIT_THREADS_ISA:-}" ] || options+=(--isa "$STITCHKIT_THREADS_ISA")
for bundle in "$@"; do
    echo
    basename "$bundle"
    plan=$("$device" "$bundle" --list | awk '$NF == "resnet-8" { sub(/\*/, "", $1); print $1 }')
    [ -z "$plan" ] || "$device" threads "$bundle" --plan "$plan" "${options[@]}"
    "$device" threads "$bundle" "${options[@]}"
done
