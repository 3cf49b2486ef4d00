#!/bin/sh
# Builds examples/qemu-cortex-m for every emulated board, runs it, and compares the boards' logits with the host's.
#
#   tests/boards.sh [BUNDLE [INPUTS]]
#
# BUNDLE  the bundle in flash; default: a synthetic one shaped like ResNet-8
# INPUTS  raw int8 inputs, one after another; default: random ones
#
# Environment:
#   BOARDS         boards to run; default: all
#   CARGO_TARGET_DIR  default: target/boards
#   INPUT_COUNT    random inputs for the first Cortex-M4 board (200)
#   LIGHT_COUNT    inputs for the other boards (20)
#   EMULATION_SECONDS  longest run of one program (1200)
#   WINDOW_BYTES   memory for weights on their way from SPI flash (4096)
#   CODE_LIMIT     most bytes of code and constants of the firmware besides its bundle (40960 on a Cortex-M4, 47104 with
#                  MVE kernels, else 46080)
#
# Prints a PASS, FAIL or SKIP line per check and, last, `boards: N passed, M failed`; exits 1 if any failed.
set -u

root=$(cd "$(dirname "$0")/.." && pwd)
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$root/target/boards}"
boards=${BOARDS:-"netduinoplus2 mps2-an386 mps2-an385 mps2-an505 mps3-an547 microbit"}
input_count=${INPUT_COUNT:-200}
light_count=${LIGHT_COUNT:-20}
window_bytes=${WINDOW_BYTES:-4096}
package=$root/examples/qemu-cortex-m
work=$CARGO_TARGET_DIR/run
passed=0
failed=0
mkdir -p "$work"

pass() { passed=$((passed + 1)); echo "PASS $*"; }
fail() { failed=$((failed + 1)); echo "FAIL $*"; }
# verdict STATUS LABEL: PASS if STATUS is 0.
verdict() { if [ "$1" -eq 0 ]; then shift; pass "$@"; else shift; fail "$@"; fi; }

target_of() {
    case $1 in
        netduinoplus2 | mps2-an386 | mps2-an500) echo thumbv7em-none-eabihf ;;
        mps2-an385) echo thumbv7m-none-eabi ;;
        mps2-an505 | mps3-an547) echo thumbv8m.main-none-eabihf ;;
        microbit) echo thumbv6m-none-eabi ;;
        *) echo "unknown board $1" >&2; exit 2 ;;
    esac
}

# Flags of a board whose processor is not that of its target in .cargo/config.toml, and a folder for what is built with them.
flags_of() { case $1 in mps3-an547) echo "-C target-cpu=cortex-m55" ;; esac; }
target_dir_of() { case $1 in mps3-an547) echo "$CARGO_TARGET_DIR/$1" ;; *) echo "$CARGO_TARGET_DIR" ;; esac; }
# program_of BOARD BIN: where a program lies after its build.
program_of() { echo "$(target_dir_of "$1")/$(target_of "$1")/release/$2"; }

flash_bytes_of() { case $1 in microbit) echo 262144 ;; mps3-an547) echo 2097152 ;; netduinoplus2) echo 1048576 ;; *) echo 4194304 ;; esac; }

# build BOARD BIN [CARGO ARGUMENTS]
build() {
    board=$1 bin=$2
    shift 2
    flags=$(flags_of "$board")
    folder=$(target_dir_of "$board")
    (
        [ -z "$flags" ] || export RUSTFLAGS="$flags"
        cd "$package" && CARGO_TARGET_DIR=$folder STITCHKIT_BOARD=$board \
            cargo build --quiet --release --target "$(target_of "$board")" --bin "$bin" "$@"
    )
}

# build_with BOARD BUNDLE BIN [CARGO ARGUMENTS]: builds with that bundle in flash and keeps the program as BOARD.BUNDLE.BIN.elf.
build_with() {
    export STITCHKIT_BUNDLE="$work/$2.stk"
    (board=$1 bin=$3 && shift 3 && build "$board" "$bin" "$@") || { fail "$1: $3 does not build"; return 1; }
    cp "$(program_of "$1" "$3")" "$work/$1.$2.$3.elf"
}

# emulate BOARD ELF LOG [-icount ...] -- [ARGUMENTS FOR THE PROGRAM]: runs in the work folder, returns its exit status.
emulate() {
    board=$1 elf=$2 log=$3
    shift 3
    options=
    while [ "$1" != -- ]; do options="$options $1"; shift; done
    shift
    semihosting=enable=on,target=native,arg=program
    for argument in "$@"; do semihosting=$semihosting,arg=$argument; done
    # shellcheck disable=SC2086
    (cd "$work" && timeout "${EMULATION_SECONDS:-1200}" qemu-system-arm -M "$board" -nographic -monitor none -serial none $options \
        -semihosting-config "$semihosting" -kernel "$elf" >"$log" 2>&1 </dev/null)
}

# code_bytes ELF: vectors, code and constants, without the bundle.
code_bytes() {
    readelf -SW "$1" | sed 's/\[ */[/' |
        awk '$2 ~ /^\.(vector_table|text|rodata|data)$/ { printf "0x%s + ", $6 } END { print 0 }' |
        { read -r sum; echo $(($sum)); }
}

check_conformance() {
    build "$1" conformance && elf=$(program_of "$1" conformance) &&
        emulate "$1" "$elf" "$work/$1.conformance" --
    verdict $? "$1: $(tail -n 1 "$work/$1.conformance")"
}

# check_random BOARD: a bundle of random graphs, whose figures nobody chose.
check_random() {
    build_with "$1" random firmware || return
    rm -f "$work/$1".out.*.bin
    emulate "$1" "$work/$1.random.firmware.elf" "$work/$1.random" -- "inputs=random.in" "outputs=$1.out"
    verdict $? "$1: golden vectors of random graphs agree"
    check_logits "$1" random 4
    check_divided "$1" random random.in 4
}

# check_divided BOARD BUNDLE INPUTS COUNT: with a fast memory as large as the bundle was laid out for, and the board's second
# memory beside it, plans that do not fit the fast one are divided between both, and the logits stay the same.
check_divided() {
    case $1 in mps2-an386 | mps2-an385 | mps2-an500 | mps3-an547) ;; *) return ;; esac
    fast=$(figure most_fast_bytes "$2")
    [ "$fast" -gt 0 ] || return
    rm -f "$work/$1".out.*.bin
    emulate "$1" "$work/$1.$2.firmware.elf" "$work/$1.divided" -- "fast=$fast" "inputs=$3" "outputs=$1.out"
    status=$?
    divided=$(grep -c '^memory: plan .* [1-9][0-9]* bytes in the fast one, [1-9]' "$work/$1.divided")
    [ $status -eq 0 ] && [ "$divided" -gt 0 ]
    verdict $? "$1: $divided plans of $2 in two memories, $fast bytes of fast one: golden vectors agree"
    check_logits "$1" "$2" "$4"
}

check_no_panic() {
    export STITCHKIT_BUNDLE="$work/small.stk"
    build "$1" no-panic --features stitchkit-runtime/variants 2>"$work/$1.no-panic" || { fail "$1: a panic is reachable in the runtime"; return; }
    cp "$(program_of "$1" no-panic)" "$work/$1.no-panic.elf"
    pass "$1: no panic is reachable in the runtime"
    echo "    runtime alone: $(code_bytes "$work/$1.no-panic.elf") bytes of code and constants"
    if build "$1" no-panic --features stitchkit-runtime/variants,reachable-panic 2>"$work/$1.panic"; then
        fail "$1: a deliberate panic went unnoticed"
    elif grep -q a_panic_is_reachable "$work/$1.panic"; then
        pass "$1: a deliberate panic fails to link"
    else
        fail "$1: the deliberate panic failed to build for another reason"
    fi
}

# check_minimal BOARD BUNDLE: the firmware without the test harness is small, and chooses as the full one does.
check_minimal() {
    build_with "$1" "$2" minimal || return
    bytes=$(code_bytes "$work/$1.$2.minimal.elf")
    case $1 in mps3-an547) code_limit=${CODE_LIMIT:-47104} ;; netduinoplus2 | mps2-an386) code_limit=${CODE_LIMIT:-40960} ;; *) code_limit=${CODE_LIMIT:-46080} ;; esac
    [ "$bytes" -le "$code_limit" ]
    verdict $? "$1: the firmware takes $bytes bytes of code and constants besides its bundle, limit $code_limit"
    emulate "$1" "$work/$1.$2.minimal.elf" "$work/$1.minimal" -icount shift=3 --
    [ $? -eq 0 ] && grep -q "^choice: plan $(sed -n 's/^plan //p' "$work/$1.minimal") " "$work/$1.firmware"
    verdict $? "$1: the firmware chooses $(head -n 1 "$work/$1.minimal") and its golden vectors agree"
    check_operators "$1" "$2"
}

# check_operators BOARD BUNDLE: built with the bundle's operators alone the firmware does the same; with others it refuses.
check_operators() {
    build_with "$1" "$2" minimal --no-default-features --features "$(figure features "$2")" || return
    bytes=$(code_bytes "$work/$1.$2.minimal.elf")
    emulate "$1" "$work/$1.$2.minimal.elf" "$work/$1.operators" -icount shift=3 -- && cmp -s "$work/$1.minimal" "$work/$1.operators"
    verdict $? "$1: the same with this bundle's operators alone, in $bytes bytes"
    build_with "$1" "$2" minimal --no-default-features --features stitchkit-runtime/op-slice || return
    emulate "$1" "$work/$1.$2.minimal.elf" "$work/$1.operators" -icount shift=3 --
    [ $? -eq 1 ]
    verdict $? "$1: without them it is refused"
}

# check_logits BOARD BUNDLE COUNT: compares every file the board wrote with the start of the host's.
check_logits() {
    plans=0 wrong=
    output_bytes=$(figure output_bytes "$2")
    for file in "$work/$1".out.*.bin; do
        [ -e "$file" ] || continue
        plan=${file%.bin}
        plan=${plan##*.}
        bytes=$(wc -c <"$file")
        [ "$bytes" -eq $(($3 * output_bytes)) ] && cmp -s -n "$bytes" "$file" "$work/$2.$plan.bin" || wrong="$wrong $plan"
        plans=$((plans + 1))
    done
    [ "$plans" -gt 0 ] && [ -z "$wrong" ]
    verdict $? "$1: logits of $plans plans of $2 over $3 inputs equal the host's${wrong:+, but not of plans$wrong}"
}

# run_firmware BOARD BUNDLE INPUTS COUNT
run_firmware() {
    build_with "$1" "$2" firmware || return
    rm -f "$work/$1".out.*.bin
    emulate "$1" "$work/$1.$2.firmware.elf" "$work/$1.firmware" -- "inputs=$3" "outputs=$1.out"
    status=$?
    grep -v -E "^(files|logit):" "$work/$1.firmware" | sed "s/^/    /"
    if [ $status -eq 3 ] && [ "$2" != small ]; then
        pass "$1: $(grep '^no plan fits' "$work/$1.firmware")"
        run_firmware "$1" small small.in "$input_count"
        return
    fi
    echo "    firmware: $(code_bytes "$work/$1.$2.firmware.elf") bytes of code and constants"
    verdict $status "$1: firmware chooses a plan of $2 and its golden vectors agree"
    check_logits "$1" "$2" "$4"
    check_divided "$1" "$2" "$3" "$4"
    check_limits "$1" "$2"
    check_minimal "$1" "$2"
    check_streamed "$1" "$2"
}

# Less memory gives a smaller plan, too little a clear answer.
check_limits() {
    least=$(figure least_arena_bytes "$2")
    emulate "$1" "$work/$1.$2.firmware.elf" "$work/$1.least" -icount shift=3 -- "ram=$least"
    verdict $? "$1: a plan is chosen in $least bytes: $(grep -m 1 '^choice: plan' "$work/$1.least")"
    emulate "$1" "$work/$1.$2.firmware.elf" "$work/$1.less" -icount shift=3 -- "ram=$((least - 1))"
    [ $? -eq 3 ]
    verdict $? "$1: $(grep -m 1 '^no plan fits' "$work/$1.less" || echo 'one byte less is not refused')"
}

# check_streamed BOARD BUNDLE: the bundle runs from a simulated SPI NOR flash with the results it has in place.
check_streamed() {
    build_with "$1" "$2" streamed || return
    emulate "$1" "$work/$1.$2.streamed.elf" "$work/$1.streamed" -icount shift=3 -- "window=$window_bytes"
    status=$?
    sed "s/^/    /" "$work/$1.streamed"
    verdict $status "$1: $2 streamed from SPI flash in a window of $window_bytes bytes equals $2 in place"
}

run_bench() {
    build_with "$1" bundle bench || return
    emulate "$1" "$work/$1.bundle.bench.elf" "$work/$1.bench" -icount shift=3 --
    verdict $? "$1: instructions counted"
    grep -E '^(bench|boot|switch|plan|  decoding)' "$work/$1.bench" | sed 's/^/    /'
    grep '^{' "$work/$1.bench" >>"$work/bench.jsonl"
    switch=$(sed -n 's/^switch: \([0-9]*\) .*/\1/p' "$work/$1.bench")
    [ "${switch:-9999}" -le 1000 ]
    verdict $? "$1: a change of plan takes ${switch:-no known number of} instructions, limit 1000"
    run_adapt "$1"
}

# A load comes and goes: the plan goes down within three inferences and comes back. Where there is one plan, it cannot.
run_adapt() {
    [ "$(grep -c '^plan ' "$work/bundle.table")" -gt 1 ] || return
    build_with "$1" bundle adapt || return
    emulate "$1" "$work/$1.bundle.adapt.elf" "$work/$1.adapt" -icount shift=3 --
    verdict $? "$1: $(grep '^adapt:' "$work/$1.adapt")"
}

host_tool() { "$CARGO_TARGET_DIR/release/board-files" "$@"; }

# figure NAME BUNDLE: a number about a bundle.
figure() { sed -n "s/^$1 //p" "$work/$2.table"; }

# describe BUNDLE INPUTS: writes the table and the host's logits.
describe() {
    host_tool table "$work/$1.stk" >"$work/$1.table" && host_tool logits "$work/$1.stk" "$work/$2" "$work/$1"
}

prepare() {
    (cd "$root" && cargo build --quiet --release -p stitchkit-tests --bin board-files) || exit 1
    rm -f "$work"/*.bin "$work"/*.in
    if [ $# -ge 1 ]; then cp "$1" "$work/bundle.stk"; else host_tool bundle resnet8 "$work/bundle.stk"; fi || exit 1
    if [ $# -ge 2 ]; then cp "$2" "$work/full.in"; else
        host_tool inputs "$work/bundle.stk" "$input_count" "$work/full.in"
    fi || exit 1
    describe bundle full.in || exit 1
    input_bytes=$(figure input_bytes bundle)
    input_count=$(($(wc -c <"$work/full.in") / input_bytes))
    [ "$light_count" -le "$input_count" ] || light_count=$input_count
    head -c $((light_count * input_bytes)) "$work/full.in" >"$work/light.in"
    # For boards that the bundle is too large for.
    host_tool bundle every-op "$work/small.stk" || exit 1
    host_tool inputs "$work/small.stk" "$input_count" "$work/small.in" && describe small small.in || exit 1
    host_tool bundle random "$work/random.stk" || exit 1
    host_tool inputs "$work/random.stk" 4 "$work/random.in" && describe random random.in || exit 1
    : >"$work/bench.jsonl"
    cat "$work/bundle.table"
}

run_board() {
    echo "== $1"
    check_conformance "$1"
    check_no_panic "$1"
    [ "$1" = microbit ] || check_random "$1"
    bundle_bytes=$(wc -c <"$work/bundle.stk")
    if [ $((bundle_bytes + 65536)) -gt "$(flash_bytes_of "$1")" ]; then
        echo "SKIP $1: the bundle does not fit in flash"
        run_firmware "$1" small small.in "$input_count"
    elif [ "$1" = netduinoplus2 ]; then
        run_firmware "$1" bundle full.in "$input_count"
        run_bench "$1"
    else
        run_firmware "$1" bundle light.in "$light_count"
        run_bench "$1"
    fi
}

prepare "$@"
for board in $boards; do run_board "$board"; done
echo "boards: $passed passed, $failed failed"
[ "$failed" -eq 0 ]
