#!/usr/bin/env bash
# All tests: host, emulated ARM Linux, emulated Cortex-M. Sets up a fresh Debian-like machine by itself.
#   STITCHKIT_QUICK=1   only what runs on this machine, no emulators
# CIFAR-10 images are used where they are (see models/cifar10-resnet/DATA_CARD.md); without them that part is skipped and says so.
set -euo pipefail
cd "$(dirname "$0")/.."
quick=${STITCHKIT_QUICK:-0}
target_dir=$(realpath -m "${CARGO_TARGET_DIR:-target}")
tests/setup.sh "$([ "$quick" = 1 ] && echo host || echo all)"

step() { printf '\n== %s\n' "$*"; }

step "format and lints"
cargo fmt --all -- --check
cargo clippy --workspace --all-targets --release -- -D warnings

step "runtime, unoptimised: overflow checks on"
cargo test -p stitchkit-runtime --features threads
cargo test -p stitchkit-conformance
cargo test -p stitchkit-device

step "runtime with defmt, and every Cortex-M target"
for triple in thumbv6m-none-eabi thumbv7m-none-eabi thumbv7em-none-eabihf thumbv8m.main-none-eabi; do
    cargo check -q -p stitchkit-runtime --target "$triple"
    cargo check -q -p stitchkit-runtime --target "$triple" --features defmt
done

step "host tools, both executors, command line"
cargo test --release --workspace

step "gradients beside PyTorch, where it is installed"
if ${PYTHON:-python3} -c 'import torch, onnx' 2>/dev/null; then
    cargo build -q --release -p stitchkit --example train-bench
    ${PYTHON:-python3} tests/train-oracle.py "$target_dir/release/examples/train-bench" models/digits/*.onnx \
        models/cifar10-resnet/*.onnx host-tools/src/train/engine/tests/vit.onnx
else
    echo "skipped: PyTorch is not on this machine; stored samples of its gradients were compared by the tests above"
fi

step "bundles of the shipped families"
mkdir -p "$target_dir/bundles"
stitchkit="$target_dir/release/stitchkit"
cargo build --release -p stitchkit
"$stitchkit" export models/digits --out "$target_dir/bundles/digits.stk"
"$stitchkit" verify "$target_dir/bundles/digits.stk"
bundles=("$target_dir/bundles/digits.stk")
if [ -e models/cifar10-resnet/../../../shared/data/cifar10-jpeg.tar ]; then
    "$stitchkit" export models/cifar10-resnet --out "$target_dir/bundles/cifar10.stk" --results "$target_dir/bundles/cifar10.json"
    tests/results.py models/cifar10-resnet/results.json "$target_dir/bundles/cifar10.json"
    "$stitchkit" verify "$target_dir/bundles/cifar10.stk"
    STITCHKIT=$stitchkit tests/sweep.sh "$target_dir/bundles/cifar10.stk"
    bundles+=("$target_dir/bundles/cifar10.stk")
else
    echo "skipped: the CIFAR-10 images are not on this machine"
fi
step "one inference on several threads: same bytes"
STITCHKIT_THREADS_TIME=0 tests/threads.sh "${bundles[@]}"

step "bundles from storage: same bytes in any window, nothing read twice"
cargo build -q --release -p stitchkit-tests --bin board-files
for bundle in "${bundles[@]}"; do "$target_dir/release/board-files" streamed "$bundle"; done
[ "$quick" = 1 ] && exit 0

step "ARM Linux under QEMU: same bytes"
cargo clippy -q -p stitchkit-runtime --features std --target aarch64-unknown-linux-gnu -- -D warnings
tests/cross.sh "${bundles[@]}"
"$target_dir/release/board-files" bundle random "$target_dir/bundles/random.stk"
STITCHKIT_CROSS_BUILD=0 STITCHKIT_CROSS_COUNT=4 STITCHKIT_CROSS_TESTS=0 tests/cross.sh "$target_dir/bundles/random.stk"

step "instructions of every level of the Linux kernels against the baseline"
STITCHKIT_CROSS_BUILD=0 tests/arm-instructions.sh --check tests/arm-baseline.txt

step "a board file from a Linux board"
"$stitchkit" profile --device-binary "$target_dir/cross/bin/stitchkit-device-aarch64-unknown-linux-gnu-kernels" \
    --runner "qemu-aarch64 -L /usr/aarch64-linux-gnu" --out "$target_dir/bundles/linux.toml"

step "Cortex-M under QEMU: same bytes, memory, instructions"
CARGO_TARGET_DIR="$target_dir/boards" tests/boards.sh "${bundles[-1]}"

step "instructions and bytes of the MLPerf Tiny shapes against the baseline"
CARGO_TARGET_DIR="$target_dir/boards" "$stitchkit" bench --board qemu-m0 --board qemu-m4 --board qemu-m55 \
    --model dscnn --model autoencoder --check tests/bench-baseline.json

step "the stack of a linked firmware has a bound"
"$stitchkit" stack "$target_dir/boards/thumbv7em-none-eabihf/release/count" --limit 6KiB

step "a board file from counted instructions"
CARGO_TARGET_DIR="$target_dir/boards" "$stitchkit" profile --board qemu-m4 --test "${bundles[-1]}" --out "$target_dir/bundles/qemu-m4.toml"
"$stitchkit" select "${bundles[-1]}" --board "$target_dir/bundles/qemu-m4.toml"

step "firmware of real boards, and their loop under QEMU"
(cd examples/firmware/common && CARGO_TARGET_DIR="$target_dir/boards" cargo test -q)
CARGO_TARGET_DIR="$target_dir/boards" tests/examples.sh "${bundles[0]}"

step "C interface: header, firmware under QEMU"
CARGO_TARGET_DIR="$target_dir/boards" tests/c-firmware.sh "$target_dir/bundles/digits.stk"
