#!/usr/bin/env bash
# Shows on Linux how stitchkit-device adapts: it answers frame after frame under a deadline while other programs start and stop
# competing for its processor. Reports what happened by counts, from the trace that it writes.
#
#   tests/adapt-linux.sh [--runner "qemu-aarch64 -L /usr/aarch64-linux-gnu"] [--device PROGRAM] BUNDLE [OPTIONS OF `stream`]
#
# The deadline is 1.5 times what the most accurate plan takes alone. Three phases of SECONDS_EACH: alone, with LOADS busy
# programs on the same processor, alone again. Exit status 0 if the law of `stitchkit_runtime::adapt` is seen in the trace, 1
# if not, 2 if nothing could be run. Look at the trace with `stitchkit report BUNDLE --html page.html --trace FILE`.
#
# Environment: LOADS (4), SECONDS_EACH (6), CPU (0): processor that all of it runs on, TRACE (adapt-linux.jsonl): the file.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
loads=${LOADS:-4}
seconds=${SECONDS_EACH:-6}
cpu=${CPU:-0}
trace=${TRACE:-adapt-linux.jsonl}
device=
runner=()
while [ $# -gt 0 ]; do
    case $1 in
        --runner) read -ra runner <<<"$2"; shift 2 ;;
        --device) device=$2; shift 2 ;;
        *) break ;;
    esac
done
[ $# -ge 1 ] || { sed -n '2,/^set/p' "$0" | sed 's/^# \{0,1\}//; /^set/d' >&2; exit 2; }
bundle=$1
shift
if [ -z "$device" ]; then
    (cd "$root" && cargo build --quiet --release -p stitchkit-device) || exit 2
    device=${CARGO_TARGET_DIR:-$root/target}/release/stitchkit-device
fi
pinned=(taskset -c "$cpu" "${runner[@]}" "$device")
isa=()
for ((i = 1; i <= $#; i++)); do [ "${!i}" != --isa ] || { j=$((i + 1)); isa=(--isa "${!j}"); }; done

work=$(mktemp -d)
loaders=()
cleanup() { stop_load; [ -z "${frames:-}" ] || kill "$frames" 2>/dev/null || true; rm -rf "$work"; }
start_load() { for ((i = 0; i < loads; i++)); do taskset -c "$cpu" sh -c 'while :; do :; done' & loaders+=($!); done; }
stop_load() { [ ${#loaders[@]} -eq 0 ] || kill "${loaders[@]}" 2>/dev/null || true; wait "${loaders[@]}" 2>/dev/null || true; loaders=(); }
trap cleanup EXIT

# number NAME: a number in JSON on standard input.
number() { sed -n "s/.*\"$1\":\([0-9]*\).*/\1/p" | head -n 1; }
about=$("${pinned[@]}" "$bundle" --list --json)
input_bytes=$(number input_bytes <<<"$about")
head -c "$input_bytes" /dev/zero >"$work/input"
alone_us=$("${pinned[@]}" "$bundle" --input "$work/input" "${isa[@]}" --repeat 15 --json | number median_us)
deadline_us=$((alone_us * 3 / 2))
lines() { [ -e "$trace" ] && wc -l <"$trace" || echo 0; }

rm -f "$trace"
echo "deadline $deadline_us us: 1.5 times the $alone_us us of the most accurate plan alone; $loads busy programs"
mkfifo "$work/frames"
cat /dev/zero >"$work/frames" &
frames=$!
"${pinned[@]}" stream "$bundle" --int8 --pressure off --latency "${deadline_us}us" --trace "$trace" "$@" \
    <"$work/frames" >/dev/null 2>"$work/log" &
program=$!
for ((i = 0; i < 100; i++)); do [ "$(lines)" -gt 0 ] && break; kill -0 $program 2>/dev/null || break; sleep 0.1; done
kill -0 $program 2>/dev/null || { cat "$work/log" >&2; exit 2; }
sleep "$seconds"
first=$(lines)
start_load
sleep "$seconds"
last=$(lines)
stop_load
sleep "$seconds"
kill "$frames" 2>/dev/null || true
wait "$program" || true

awk -v first="$first" -v last="$last" '
function field(name) { match($0, "\"" name "\":[^,}]*"); return substr($0, RSTART + length(name) + 3, RLENGTH - length(name) - 3) }
{
    plan = field("plan") + 0; missed = field("missed") == "true"
    if (NR == first) idle = plan
    if (missed && previous_missed && plan > 0) avoidable++
    loaded = NR > first && NR <= last
    if (loaded) {
        during++; misses += missed
        if (missed && !miss_at) miss_at = NR
        if (miss_at && !down_at && plan < idle) down_at = NR
        if (NR > first + 1 && plan > before) ups++
        if (plan < idle) lower++
    } else if (NR > last && !back_at && plan >= idle) back_at = NR
    previous_missed = missed; before = plan; final = plan; other += missed && !loaded
}
END {
    printf "%d inferences, %d of them under load; plan %d alone, %d at the end\n", NR, during, idle, final
    printf "under load: %d misses, a cheaper plan in %d, %d moves up\n", misses, lower, ups
    if (miss_at) printf "down %s inferences after the first miss\n", down_at ? down_at - miss_at : "never,"
    if (back_at) printf "back %d inferences after the load went\n", back_at - last
    printf "misses without load: %d; second misses in a row with a faster plan left: %d\n", other, avoidable
    bad = 0
    if (NR == 0 || during == 0) { print "FAIL: nothing ran under load"; bad = 1 }
    if (!miss_at) { print "FAIL: the load was too light to be noticed; give more LOADS"; bad = 1 }
    else if (!down_at || down_at - miss_at > 3) { print "FAIL: not down within 3 inferences"; bad = 1 }
    if (!back_at) { print "FAIL: not back after the load"; bad = 1 }
    if (avoidable) { print "FAIL: a second miss in a row although a faster plan was left"; bad = 1 }
    if (!bad) print "PASS: down within 3 inferences, back again, no avoidable second miss"
    exit bad
}' "$trace"
