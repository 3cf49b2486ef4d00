#!/usr/bin/env bash
# Builds the firmware of examples/firmware for real boards, reports its size, and runs the same loop on emulated boards.
#
#   tests/examples.sh BUNDLE
#
# Environment:
#   FIRMWARE           boards to build; default: stm32f4 nrf52840 rp2350
#   CAMERA_BOARDS      emulated boards to run the loop on; default: netduinoplus2 mps2-an505
#   CODE_LIMIT         most bytes of code and constants besides the bundle (65536)
#   CARGO_TARGET_DIR   default: target/boards
#
# Prints a PASS or FAIL line per check and, last, `examples: N passed, M failed`; exits 1 if any failed.
set -uo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
[ $# -eq 1 ] || { echo "usage: tests/examples.sh BUNDLE" >&2; exit 2; }
STITCHKIT_BUNDLE=$(realpath "$1")
export STITCHKIT_BUNDLE CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$root/target/boards}"
code_limit=${CODE_LIMIT:-65536}
logs=$CARGO_TARGET_DIR/run
passed=0
failed=0
mkdir -p "$logs"

pass() { passed=$((passed + 1)); echo "PASS $*"; }
fail() { failed=$((failed + 1)); echo "FAIL $*"; }

# section_bytes ELF NAMES: bytes of those sections, names separated by |.
section_bytes() {
    readelf -SW "$1" | sed 's/\[ */[/' | awk -v names="^[.]($2)\$" '$2 ~ names { printf "0x%s + ", $6 } END { print 0 }' |
        { read -r sum; echo $((sum)); }
}

target_of() {
    case $1 in
        stm32f4 | nrf52840 | netduinoplus2 | mps2-an386) echo thumbv7em-none-eabihf ;;
        rp2350 | mps2-an505) echo thumbv8m.main-none-eabihf ;;
        mps2-an385) echo thumbv7m-none-eabi ;;
        microbit) echo thumbv6m-none-eabi ;;
        *) echo "unknown board $1" >&2; exit 2 ;;
    esac
}

# Real boards: they build with this bundle, and the bundle is in flash as it is, on a 16-byte boundary.
check_firmware() {
    local board=$1 elf bytes address
    if ! (cd "$root/examples/firmware/$board" && cargo build --quiet --release); then
        fail "$board: the firmware does not build"
        return
    fi
    elf=$CARGO_TARGET_DIR/$(target_of "$board")/release/$board
    bytes=$(section_bytes "$elf" "vector_table|start_block|text|rodata|data")
    if [ "$bytes" -le "$code_limit" ]; then pass "$board: $bytes bytes of code and constants"; else
        fail "$board: $bytes bytes of code and constants, limit $code_limit"
    fi
    echo "    $(section_bytes "$elf" bundle) bytes of bundle, $(section_bytes "$elf" "data|bss|uninit") bytes of static memory"
    address=$(readelf -SW "$elf" | sed 's/\[ */[/' | awk '$2 == ".bundle" { print "0x" $4 }')
    if [ "$(section_bytes "$elf" bundle)" -eq "$(wc -c <"$STITCHKIT_BUNDLE")" ] && [ $((address % 16)) -eq 0 ]; then
        pass "$board: the bundle is at $address"
    else
        fail "$board: the bundle is not in flash as it should be"
    fi
}

# Emulated boards: the plan follows the deadline, every frame equals its golden vector, the trigger pin moves.
check_loop() {
    local board=$1 log=$logs/$1.camera elf plans
    if ! (cd "$root/examples/qemu-cortex-m" &&
        STITCHKIT_BOARD=$board cargo build --quiet --release --target "$(target_of "$board")" --bin camera); then
        fail "$board: the loop does not build"
        return
    fi
    elf=$CARGO_TARGET_DIR/$(target_of "$board")/release/camera
    # 8 ns per instruction: time is counted, not measured.
    if timeout 300 qemu-system-arm -M "$board" -nographic -monitor none -serial none -icount shift=3 \
        -semihosting-config enable=on,target=native -kernel "$elf" >"$log" 2>&1 </dev/null; then
        pass "$board: $(tail -n 1 "$log")"
    else
        tail -n 5 "$log"
        fail "$board: the loop ended with an error"
    fi
    plans=$(grep -o 'plan [0-9]*' "$log" | uniq | tr '\n' ' ')
    if [ "$(grep -o 'plan [0-9]*' "$log" | sort -u | wc -l)" -gt 1 ]; then pass "$board: as deadlines change: $plans"; else
        fail "$board: the deadline never changed the plan: $plans"
    fi
    if grep -q 'TooLate$' "$log"; then fail "$board: a frame was late against its prediction"; fi
}

for board in ${FIRMWARE:-stm32f4 nrf52840 rp2350}; do check_firmware "$board"; done
for board in ${CAMERA_BOARDS:-netduinoplus2 mps2-an505}; do check_loop "$board"; done
echo "examples: $passed passed, $failed failed"
[ "$failed" -eq 0 ]
