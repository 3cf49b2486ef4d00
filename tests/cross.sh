#!/usr/bin/env bash
# Runs every plan of the given bundles on Linux-class ARM, emulated by qemu-user, and compares the logits byte for byte with
# those of this machine.
#
#   tests/cross.sh [--inputs FILE] BUNDLE...
#   tests/cross.sh --instructions BUNDLE...
#
# FILE holds raw int8 inputs, one after another; without it, inputs are cut from the bundle's own bytes. Prints one PASS or FAIL
# line per target, backend and plan, the sizes of the programs, and a summary. Then runs the tests of `serve` and `stream`
# against the program of each target, the static ones included, and the kernels' conformance cases on emulated processors with
# and without the instructions that are looked for at run time. Exit status 0 if all pass, 1 if any fails, 2 if nothing could
# be run.
#
# --instructions only counts, on an emulated Cortex-A7 (32-bit Arm), the instructions that one inference of every plan takes with
# each kernel variant: those of a run of six inferences less those of a run of one. In brackets those of the variant over those
# of the fastest.
#
# Environment:
#   STITCHKIT_CROSS_COUNT        inputs per plan; default 200
#   STITCHKIT_CROSS_TRACT        0 leaves out the tract backend, whose build takes minutes per target; default 1
#   STITCHKIT_CROSS_TRACT_ARMV7  1 adds the tract backend on armv7; default 0
#   STITCHKIT_CROSS_STATIC       0 leaves out the static programs (aarch64 with musl, armv7 with glibc); default 1
#   STITCHKIT_CROSS_LIMIT        most bytes of a program without tract and C library; default 921600
#   STITCHKIT_CROSS_TRACT_LIMIT  most bytes of a program with tract; default 5300000
#   STITCHKIT_CROSS_TESTS        0 only compares logits and sizes; default 1
#   STITCHKIT_CROSS_BUILD        0 uses the programs of an earlier run; default 1
#   STITCHKIT_CROSS_DIR          where programs and outputs are kept; default target/cross

set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
count=${STITCHKIT_CROSS_COUNT:-200}
tract=${STITCHKIT_CROSS_TRACT:-1}
static=${STITCHKIT_CROSS_STATIC:-1}
limit_bytes=${STITCHKIT_CROSS_LIMIT:-921600}
tract_limit_bytes=${STITCHKIT_CROSS_TRACT_LIMIT:-5300000}
passed=0
failed=0

give_up() {
    echo "cross: $1" >&2
    exit 2
}

# shellcheck source=tests/linux-arm.sh
. "$root/tests/linux-arm.sh"

inputs=
instructions=0
if [ "${1:-}" = --instructions ]; then
    instructions=1
    shift
fi
if [ "${1:-}" = --inputs ]; then
    [ $# -ge 2 ] || give_up "--inputs needs a file"
    inputs=$2
    shift 2
fi
[ $# -ge 1 ] || give_up "no bundle given; usage: tests/cross.sh [--inputs FILE] BUNDLE..."

# The size of a program, and whether it keeps its limit.
check_size() {
    local bytes
    bytes=$(wc -c <"$(program "$1" "$2")")
    local limit=$limit_bytes
    case "$2 $1" in
        tract*) limit=$tract_limit_bytes ;;
        static*-gnu*)
            echo "size $1 $2: $bytes bytes, the C library included"
            return
            ;;
    esac
    if [ "$bytes" -le "$limit" ]; then verdict PASS "$1 $2: $bytes bytes, limit $limit"; else
        verdict FAIL "$1 $2: $bytes bytes, limit $limit"
    fi
}

# Builds the program for this machine, which shares tract with the workspace's release build.
build_host() {
    local options=(-p stitchkit-device)
    [ "$tract" = 0 ] || options=(--workspace --features stitchkit-device/tract)
    echo "building stitchkit-device: host" >&2
    (cd "$root" && cargo build --quiet --release "${options[@]}") || give_up "the build failed"
    cp "$target_dir/release/stitchkit-device" "$(program host kernels)"
    [ "$tract" = 0 ] || cp "$target_dir/release/stitchkit-device" "$(program host tract)"
}

# The words that run the program for a target and backend. Backend `no-neon` is the step loop on a processor without vectors.
runner() {
    local processor_armv7=$with_neon
    [ "$2" != no-neon ] || processor_armv7=$without_neon
    case $1 in
        aarch64-*) echo "qemu-aarch64 -L $sysroot_aarch64 $(program "$1" "$2")" ;;
        armv7-*) echo "qemu-arm -cpu $processor_armv7 -L $sysroot_armv7 $(program "$1" "${2/no-neon/kernels}")" ;;
        *) program "$1" "$2" ;;
    esac
}

# Runs the program for a target and backend with the remaining arguments.
run() {
    local words
    read -ra words <<<"$(runner "$1" "$2")"
    shift 2
    "${words[@]}" "$@"
}

# The tests of `serve` and `stream`, on the program for a target: reloads under load, hostile requests, the end on SIGTERM.
check_service() {
    local name="$1 $2: serve and stream" log=$work/out/service
    if (cd "$root" && STITCHKIT_DEVICE_PROGRAM=$(runner "$1" "$2") \
        timeout 900 cargo test --quiet -p stitchkit-device --test serve --test stream) >"$log" 2>&1; then
        verdict PASS "$name: $(awk '/^test result: ok/ { sum += $4 } END { print sum }' "$log") tests"
    else
        grep -v '^stitchkit-device:' "$log" | tail -40 >&2
        verdict FAIL "$name"
    fi
}

# The conformance cases and random convolutions through every kernel variant that an emulated processor runs.
check_kernels() {
    local emulator=$1 target=$2 processor=$3 sysroot=$4 variable log=$work/out/kernels
    local name="$target $processor: kernels equal the reference"
    variable=CARGO_TARGET_$(echo "$target" | tr 'a-z-' 'A-Z_')_RUNNER
    if (cd "$root" && export "$variable=$emulator -cpu $processor -L $sysroot" &&
        timeout 900 cargo test --quiet -p stitchkit-conformance --target "$target" --test kernels --test packed &&
        timeout 900 cargo test --quiet -p stitchkit-runtime --features std --target "$target" --lib -- \
            kernels::conv kernels::packed kernels::elementwise kernels::pool kernels::attention kernels::layer_norm \
            kernels::armv7_neon) >"$log" 2>&1; then
        verdict PASS "$name: $(awk '/^test result: ok/ { sum += $4 } END { print sum }' "$log") tests"
    else
        tail -40 "$log" >&2
        verdict FAIL "$name"
    fi
}

# Whether the program for 32-bit Arm finds its vectors on a processor, or does not: `yes` or `no`.
check_vectors() {
    local processor=$1 expected=$2 bundle=$3 found=no
    local name="armv7-unknown-linux-gnueabihf $processor: vectors found: $expected"
    ! qemu-arm -cpu "$processor" -L "$sysroot_armv7" "$(program armv7-unknown-linux-gnueabihf kernels)" "$bundle" --plan 0 \
        --isa arm-neon --input "$work/out/inputs" >"$work/out/found" 2>"$work/out/notes" || found=yes
    if [ $found = "$expected" ]; then verdict PASS "$name"; else
        cat "$work/out/notes" >&2
        verdict FAIL "$name"
    fi
}

# A line per plan with the instructions of each kernel variant on 32-bit Arm.
count_instructions() {
    local bundle=$1 count=1 plan isa one counts
    : >"$work/out/inputs"
    prepare_inputs "$bundle" "$work/out/inputs"
    for plan in $(run host kernels "$bundle" --list --json | grep -o '"plan":[0-9]*' | cut -d: -f2); do
        counts=
        for isa in reference arm-dsp arm-neon; do
            one=$(instructions_per_inference 1 6 qemu-arm -cpu $with_neon -L "$sysroot_armv7" \
                "$(program armv7-unknown-linux-gnueabihf kernels)" "$bundle" --plan "$plan" --isa "$isa" \
                --input "$work/out/inputs") || give_up "plan $plan of $bundle does not run with $isa"
            counts+=" $isa $one"
        done
        echo "instructions armv7 $with_neon plan $plan of $(basename "$bundle"):" \
            "$(awk '{ printf "%s %d (%.2f), %s %d (%.2f), %s %d", $1, $2, $2 / $6, $3, $4, $4 / $6, $5, $6 }' <<<"$counts")"
    done
}

verdict() {
    echo "$1 $2"
    if [ "$1" = PASS ]; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
}

# Compares one plan on one target with this machine's step loop.
compare() {
    local bundle=$1 values=$2 plan=$3 target=$4 backend=$5
    local name="$target $backend plan $plan of $(basename "$bundle")"
    local found=$work/out/found expected=$work/out/expected-$plan kind=kernels
    [ "$backend" != tract ] || kind=tract
    if ! run "$target" "$backend" "$bundle" --plan "$plan" --backend "$kind" --input "$values" >"$found" 2>"$work/out/notes"; then
        cat "$work/out/notes" >&2
        verdict FAIL "$name: the program failed"
    elif ! cmp -s "$found" "$expected"; then
        verdict FAIL "$name: $(cmp "$found" "$expected" 2>&1 | tail -1)"
    else
        verdict PASS "$name: $(wc -l <"$found") inputs"
    fi
}

# The inputs for a bundle: the first COUNT of the file given, or as many cut from the bundle itself.
prepare_inputs() {
    local bundle=$1 values=$2 need bytes
    bytes=$(run host kernels "$bundle" --list --json | sed -E 's/.*"input_bytes":([0-9]+).*/\1/')
    need=$((bytes * count))
    if [ -n "$inputs" ]; then
        head -c "$need" "$inputs" >"$values"
    else
        while [ "$(wc -c <"$values")" -lt "$need" ]; do cat "$bundle" >>"$values"; done
        truncate -s "$need" "$values"
    fi
    [ "$(wc -c <"$values")" -ge "$need" ] || give_up "$inputs holds fewer than $count inputs of $bytes bytes"
}

# Runs one bundle everywhere.
check_bundle() {
    local bundle=$1 values=$work/out/inputs plans plan job
    : >"$values"
    prepare_inputs "$bundle" "$values"
    plans=$(run host kernels "$bundle" --list --json | grep -o '"plan":[0-9]*' | cut -d: -f2)
    for plan in $plans; do
        run host kernels "$bundle" --plan "$plan" --input "$values" >"$work/out/expected-$plan" 2>/dev/null ||
            give_up "plan $plan of $bundle does not run on this machine"
        [ "$(wc -l <"$work/out/expected-$plan")" -eq "$count" ] || give_up "plan $plan did not print $count lines"
        for job in "${jobs[@]}" "armv7-unknown-linux-gnueabihf no-neon"; do
            # shellcheck disable=SC2086
            compare "$bundle" "$values" "$plan" $job
        done
    done
}

# Everything compared with this machine's step loop: target and backend.
services=("aarch64-unknown-linux-gnu kernels" "armv7-unknown-linux-gnueabihf kernels")
if [ "$static" = 1 ]; then
    services+=("aarch64-unknown-linux-musl static" "armv7-unknown-linux-gnueabihf static")
fi
jobs=("${services[@]}")
if [ "$tract" = 1 ]; then
    jobs+=("host tract" "aarch64-unknown-linux-gnu tract")
    if [ "${STITCHKIT_CROSS_TRACT_ARMV7:-0}" = 1 ]; then
        jobs+=("armv7-unknown-linux-gnueabihf tract")
    fi
fi

if [ "$instructions" = 1 ]; then
    if [ "${STITCHKIT_CROSS_BUILD:-1}" = 1 ]; then
        tract=0
        build_host
        build armv7-unknown-linux-gnueabihf kernels
    fi
    build_counter
    for bundle in "$@"; do
        [ -r "$bundle" ] || give_up "cannot read $bundle"
        count_instructions "$bundle"
    done
    exit 0
fi
if [ "${STITCHKIT_CROSS_BUILD:-1}" = 1 ]; then
    build_host
    for job in "${jobs[@]}"; do
        # shellcheck disable=SC2086
        [ "$job" = "host tract" ] || build $job
    done
fi
for bundle in "$@"; do
    [ -r "$bundle" ] || give_up "cannot read $bundle"
    check_bundle "$bundle"
done
for job in "${jobs[@]}"; do
    # shellcheck disable=SC2086
    [ "$job" = "host tract" ] || check_size $job
done
if [ "${STITCHKIT_CROSS_TESTS:-1}" = 1 ]; then
    for job in "${services[@]}"; do
        # shellcheck disable=SC2086
        check_service $job
    done
    # Armv8.0, the dot product too, and everything that QEMU knows.
    for processor in cortex-a53 cortex-a76 max; do
        check_kernels qemu-aarch64 aarch64-unknown-linux-gnu $processor "$sysroot_aarch64"
    done
    check_vectors $with_neon yes "${!#}"
    check_vectors $without_neon no "${!#}"
    for processor in $with_neon $without_neon; do
        check_kernels qemu-arm armv7-unknown-linux-gnueabihf $processor "$sysroot_armv7"
    done
fi
echo "cross: $passed passed, $failed failed"
[ "$failed" -eq 0 ]
