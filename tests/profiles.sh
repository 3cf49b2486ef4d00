#!/usr/bin/env bash
# Measures every emulated board with `stitchkit profile`, predicts the plans of bundles that the fit does not see, and prints a
# table of the errors.
#
#   tests/profiles.sh [--write] BUNDLE...
#
# A bundle that does not fit a board is left out there. With --write the board files in examples/boards are replaced, those
# that are estimated from emulated ones included. Exit status 0 if every board's median error is at most 5 % and its worst at
# most 15 %, 1 if not.
#
# Environment: STITCHKIT, the command (default: target/release/stitchkit, built if missing); BOARDS, names; CARGO_TARGET_DIR of
# the firmware (target/boards).
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
write=
[ "${1:-}" != --write ] || { write=1; shift; }
[ $# -ge 1 ] || { sed -n '2,/^set/p' "$0" | sed 's/^# \{0,1\}//; /^set/d' >&2; exit 2; }
stitchkit=${STITCHKIT:-$root/target/release/stitchkit}
[ -x "$stitchkit" ] || (cd "$root" && cargo build --release -p stitchkit)
boards=${BOARDS:-qemu-m0 qemu-m3 qemu-m4 qemu-m7 qemu-m33 qemu-m55}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
tests=()
for bundle in "$@"; do tests+=(--test "$bundle"); done

# number NAME: the first number of that name in pretty-printed JSON on standard input.
number() { sed -n "s/.*\"$1\": *\([0-9.]*\).*/\1/p" | head -n 1; }
failed=0
printf '%-10s %6s %8s %8s   %s\n' board plans median worst "the board's own probe: median, worst"
for board in $boards; do
    CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$root/target/boards} "$stitchkit" profile --board "$board" \
        --firmware "$root/examples/qemu-cortex-m" "${tests[@]}" --out "$work/$board.toml" --json >"$work/$board.json"
    held_out=$(grep -A 4 '"held_out": {' "$work/$board.json")
    own=$(sed -n '/"own_probe": {/,/}/p' "$work/$board.json")
    median=$(number median_error_percent <<<"$held_out")
    worst=$(number worst_error_percent <<<"$held_out")
    printf '%-10s %6s %6s %% %6s %%   %s %%, %s %%\n' "$board" "$(number plans <<<"$held_out")" "$median" "$worst" \
        "$(number median_error_percent <<<"$own")" "$(number worst_error_percent <<<"$own")"
    awk -v median="$median" -v worst="$worst" 'BEGIN { exit !(median <= 5 && worst <= 15) }' || failed=1
done
[ -n "$write" ] || exit $failed

cp "$work"/*.toml "$root/examples/boards/"
cd "$root/examples/boards"
# estimate NAME FROM CLOCK RAM FLASH WHAT CORE
estimate() {
    "$stitchkit" profile --from "$2.toml" --clock "$3" --memory "$4" --flash "$5" --out "$1.toml" --description \
        "$6, estimated: instructions counted on an emulated $7, one per cycle"
}
estimate stm32f405 qemu-m4 168MHz 120KiB 960KiB "STM32F405 at 168 MHz" Cortex-M4
estimate nrf52840 qemu-m4 64MHz 240KiB 960KiB "nRF52840 at 64 MHz" Cortex-M4
estimate rp2350 qemu-m33 150MHz 500KiB 3840KiB "RP2350 (Cortex-M33) at 150 MHz" Cortex-M33
exit $failed
