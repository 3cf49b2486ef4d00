#!/usr/bin/env bash
# The kernels beside ONNX Runtime and LiteRT (XNNPACK), int8, one thread, on networks with the layers of ResNet-8, of
# MobileNetV2 0.35 at 96x96 and of DeiT-Ti at 224x224: processor time per inference on this machine, and instructions per inference
# on emulated 64-bit Arm processors without the dot product, with it, and with everything QEMU knows. There the tract executor too.
#
#   tests/peers.sh                    (stitchkit bench --linux runs it and makes tables of what it prints)
#
# Instructions are those of a run of six inferences less those of a run of one; of DeiT-Ti, of two less one. Needs apt, pip and network; nothing is installed
# outside the folder. Prints one line per machine, network and runtime; the last column is our figure over theirs.
#
# Environment:
#   STITCHKIT_PEERS_DIR   where everything is kept; default target/peers
#   STITCHKIT_PEERS_ARM   0 leaves out the emulated processors; default 1
#   STITCHKIT_PEERS_TRACT 0 leaves out the tract executor, whose build takes minutes; default 1
#   STITCHKIT             the program; default: built here
#   STITCHKIT_PEERS_TABS  1 puts tabs between the columns; default 0
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
target_dir=$(realpath -m "${CARGO_TARGET_DIR:-$root/target}")
export CARGO_TARGET_DIR=$target_dir
work=$(realpath -m "${STITCHKIT_PEERS_DIR:-$target_dir/peers}")
stitchkit=${STITCHKIT:-$target_dir/release/stitchkit}
arm=aarch64-unknown-linux-gnu
tract=${STITCHKIT_PEERS_TRACT:-1}
rounds=5
mkdir -p "$work"

line() {
    if [ "${STITCHKIT_PEERS_TABS:-0}" = 1 ]; then printf '%s\t%s\t%s\t%s\t%s\n' "$@"; else printf '%-12s %-12s %-12s %12s %8s\n' "$@"; fi
}
ratio() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.2f", a / b }'; }
median() { sort -g | awk '{ all[NR] = $1 } END { print all[int((NR + 1) / 2)] }'; }

prepare_host() {
    [ -e "$work/venv/ready" ] || {
        python3 -m venv "$work/venv"
        "$work/venv/bin/pip" install --quiet numpy onnx onnxruntime ai-edge-litert sympy
        touch "$work/venv/ready"
    }
    (cd "$root" && cargo build --quiet --release -p stitchkit-device)
    [ -n "${STITCHKIT:-}" ] || (cd "$root" && cargo build --quiet --release -p stitchkit)
    "$work/venv/bin/python" "$root/tests/peers.py" make "$work" >"$work/networks" 2>"$work/make.log"
    while read -r name _; do
        "$stitchkit" export "$work/$name" --out "$work/$name.stk" >"$work/export.log" 2>&1
        head -c 1000000 "$work/$name.int8.onnx" >"$work/$name.in"
        truncate -s "$("$target_dir/release/stitchkit-device" "$work/$name.stk" --list --json |
            sed -E 's/.*"input_bytes":([0-9]+).*/\1/')" "$work/$name.in"
    done <"$work/networks"
}

# Inferences that are timed.
repeats() { [ "$1" = deit-ti ] && echo 10 || echo 200; }
# Processor time of one inference in microseconds: ours, then each peer, round by round.
ours_us() {
    local few many repeats
    repeats=$(repeats "$1")
    TIMEFORMAT=%U
    few=$({ time "$target_dir/release/stitchkit-device" "$work/$1.stk" --plan 0 --input "$work/$1.in" --repeat 1 >/dev/null 2>&1; } 2>&1)
    many=$({ time "$target_dir/release/stitchkit-device" "$work/$1.stk" --plan 0 --input "$work/$1.in" --repeat $((4 * repeats)) >/dev/null 2>&1; } 2>&1)
    awk -v a="$few" -v b="$many" -v n=$((4 * repeats - 1)) 'BEGIN { print (b - a) / n * 1e6 }'
}
theirs_us() {
    local repeats
    repeats=$(repeats "$1")
    "$work/venv/bin/python" "$root/tests/peers.py" run "$2" "$work/$1.int8.$3" "$repeats" 2>/dev/null |
        awk -v n="$repeats" '/^seconds/ { print $2 / n * 1e6 }'
}
compare_host() {
    local name=$1 round
    : >"$work/ours" && : >"$work/ort" && : >"$work/litert"
    for round in $(seq $rounds); do
        ours_us "$name" >>"$work/ours"
        theirs_us "$name" ort onnx >>"$work/ort"
        theirs_us "$name" litert tflite >>"$work/litert"
    done
    local ours ort litert
    ours=$(median <"$work/ours") ort=$(median <"$work/ort") litert=$(median <"$work/litert")
    line "host, us" "$name" stitchkit "$(printf %.0f "$ours")" ""
    line "host, us" "$name" onnxruntime "$(printf %.0f "$ort")" "$(ratio "$ours" "$ort")"
    line "host, us" "$name" litert "$(printf %.0f "$litert")" "$(ratio "$ours" "$litert")"
}

# A Python for 64-bit Arm with both runtimes, unpacked beside the emulator's C library.
prepare_arm() {
    local lists=$work/apt options package features=()
    [ "$tract" = 0 ] || features=(--features tract)
    (cd "$root" && cargo build --quiet --profile device -p stitchkit-device --target $arm "${features[@]}")
    cc -shared -fPIC -O2 -o "$work/count.so" "$root/tests/count-instructions.c"
    [ ! -e "$work/arm/ready" ] || return 0
    mkdir -p "$lists/lists/partial" "$lists/cache/archives/partial" "$work/arm/proc" "$work/arm/sys/devices/system/cpu"
    touch "$lists/status"
    options=(-qq -o Dir::State::Lists="$lists/lists" -o Dir::Cache="$lists/cache" -o Dir::State::status="$lists/status"
        -o APT::Architecture=arm64 -o APT::Architectures::=arm64)
    apt-get "${options[@]}" update
    version=$("$work/venv/bin/python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    (cd "$lists" && apt-get "${options[@]}" download "python$version-minimal" "libpython$version-minimal" "libpython$version-stdlib" \
        libc6 libstdc++6 libgcc-s1 zlib1g libexpat1 libffi8 libbz2-1.0 liblzma5 libssl3 2>"$work/apt.log")
    for package in "$lists"/*.deb; do dpkg -x "$package" "$work/arm"; done
    "$work/venv/bin/pip" install --quiet --target "$work/arm/site" --only-binary=:all: --python-version "$version" \
        --platform manylinux_2_28_aarch64 --platform manylinux_2_27_aarch64 --platform manylinux_2_17_aarch64 \
        --platform manylinux2014_aarch64 onnxruntime ai-edge-litert
    ln -sf "python$version" "$work/arm/usr/bin/python3"
    touch "$work/arm/ready"
}

# ONNX Runtime asks these files about the processor; the emulator shows those of this machine otherwise.
describe_processor() {
    local features="fp asimd evtstrm aes pmull sha1 sha2 crc32 cpuid" part=0xd03 file
    case $1 in
        neoverse-n1) features="$features atomics fphp asimdhp asimdrdm lrcpc dcpop asimddp" part=0xd0c ;;
        max) features="$features atomics fphp asimdhp asimdrdm lrcpc dcpop asimddp i8mm bf16" part=0xd40 ;;
    esac
    printf 'processor\t: 0\nFeatures\t: %s\nCPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x1\nCPU part\t: %s\nCPU revision\t: 1\n\n' \
        "$features" $part >"$work/arm/proc/cpuinfo"
    for file in possible present online; do echo 0 >"$work/arm/sys/devices/system/cpu/$file"; done
}

# Instructions of the words given after the processor.
count() {
    local processor=$1
    shift
    qemu-aarch64 -cpu "$processor" -L "$work/arm" -E PYTHONPATH="$work/arm/site" -E PYTHONHASHSEED=0 \
        -plugin "file=$work/count.so" "$@" 2>&1 >/dev/null | awk '/^instructions/ { print $2 }'
}
# Inferences less one of the longer run of a network.
more() { [ "$1" = deit-ti ] && echo 1 || echo 5; }
ours_instructions() {
    local few many program=$target_dir/$arm/device/stitchkit-device more
    more=$(more "$2")
    few=$(count "$1" "$program" "$work/$2.stk" --plan 0 --input "$work/$2.in" --backend "$3" --repeat 1)
    many=$(count "$1" "$program" "$work/$2.stk" --plan 0 --input "$work/$2.in" --backend "$3" --repeat $((more + 1)))
    echo $(((many - few) / more))
}
theirs_instructions() {
    local few many more
    more=$(more "$2")
    few=$(count "$1" "$work/arm/usr/bin/python3" "$root/tests/peers.py" run "$3" "$work/$2.int8.$4" 0)
    many=$(count "$1" "$work/arm/usr/bin/python3" "$root/tests/peers.py" run "$3" "$work/$2.int8.$4" "$more")
    echo $(((many - few) / more))
}
compare_arm() {
    local processor=$1 name=$2 ours ort litert with_tract
    describe_processor "$processor"
    ours=$(ours_instructions "$processor" "$name" kernels)
    ort=$(theirs_instructions "$processor" "$name" ort onnx)
    litert=$(theirs_instructions "$processor" "$name" litert tflite)
    line "$processor" "$name" stitchkit "$ours" ""
    [ "$tract" = 0 ] || {
        with_tract=$(ours_instructions "$processor" "$name" tract)
        line "$processor" "$name" "with tract" "$with_tract" "$(ratio "$ours" "$with_tract")"
    }
    line "$processor" "$name" onnxruntime "$ort" "$(ratio "$ours" "$ort")"
    line "$processor" "$name" litert "$litert" "$(ratio "$ours" "$litert")"
}

prepare_host
line machine network runtime "per run" "ours/it"
while read -r name _; do compare_host "$name"; done <"$work/networks"
[ "${STITCHKIT_PEERS_ARM:-1}" = 1 ] || exit 0
prepare_arm
for processor in cortex-a53 neoverse-n1 max; do
    while read -r name _; do compare_arm "$processor" "$name" </dev/null; done <"$work/networks"
done
