#!/bin/sh
# The C interface: the header is current and clean C99 and C++, and a firmware in C runs a bundle under QEMU with the host's logits.
#
#   tests/c-firmware.sh BUNDLE
#
# Environment: CARGO_TARGET_DIR (default target/boards), INPUT_COUNT random inputs (20).
# Prints a PASS or FAIL line per check; exits 1 if any failed.
set -u

[ $# -eq 1 ] || { echo "usage: tests/c-firmware.sh BUNDLE" >&2; exit 2; }
bundle=$(realpath "$1")
root=$(cd "$(dirname "$0")/.." && pwd)
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$root/target/boards}"
work=$CARGO_TARGET_DIR/c
failed=0
mkdir -p "$work"
# What an earlier run left behind must not pass for this one's.
rm -rf "$work/build" "$work"/*.log "$work"/*.txt

# verdict STATUS LABEL: PASS if STATUS is 0.
verdict() {
    if [ "$1" -eq 0 ]; then shift; echo "PASS $*"; else shift; echo "FAIL $*"; failed=1; fi
}
# build [MAKE ARGUMENTS]: make in the example's folder, with the library and objects in the work folder.
build() { make -s -C "$root/examples/c-firmware" BUILD="$work/build" BUNDLE="$bundle" INPUTS="$work/inputs.bin" "$@"; }

(cd "$root" && cargo build --quiet --release -p stitchkit-tests --bin board-files) || exit 1
host_tool() { "$CARGO_TARGET_DIR/release/board-files" "$@"; }
host_tool inputs "$bundle" "${INPUT_COUNT:-20}" "$work/inputs.bin" || exit 1
host_tool print "$bundle" "$work/inputs.bin" >"$work/host.txt" || exit 1

build check-header
verdict $? "stitchkit.h is current, and clean C99 and C++11"

build FEATURES=reachable-panic >"$work/panic.log" 2>&1
[ $? -ne 0 ] && grep -q stk_panic_is_reachable "$work/panic.log"
verdict $? "a deliberate panic fails to link"
build
verdict $? "the firmware links, so no panic is reachable in the library"

timeout 300 make -s -C "$root/examples/c-firmware" BUILD="$work/build" BUNDLE="$bundle" INPUTS="$work/inputs.bin" run \
    >"$work/board.txt" 2>"$work/board.log" </dev/null
verdict $? "the firmware runs: $(tail -n 1 "$work/board.txt")"
grep -v '^plan ' "$work/board.txt" | sed 's/^/    /'
grep '^plan ' "$work/board.txt" | cmp -s - "$work/host.txt" && [ -s "$work/host.txt" ]
verdict $? "$(wc -l <"$work/host.txt") lines of logits equal the host's"
arm-none-eabi-size -A "$work/build/firmware.elf" |
    awk '$1 ~ /^\.(text|rodata|data)$/ { sum += $2 } END { print "    firmware: " sum " bytes of code and constants besides its bundle" }'
exit $failed
