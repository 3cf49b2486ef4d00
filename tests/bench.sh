#!/bin/sh
# Instructions per inference of the MLPerf Tiny shapes on emulated Cortex-M cores, beside TensorFlow Lite Micro.
#
# Environment:
#   CORES   default: m0 m3 m4 m7 m33 m33-nodsp m55
#   MODELS  default: resnet8 dscnn mobilenetv1 autoencoder
#   STEPS   yes: a line per step too
#   CARGO_TARGET_DIR  default: target/boards
#
# The code for the Cortex-M0 is built for Armv6-M and counted on the Cortex-M3, which runs it too: the emulated M0 has too little
# memory. TensorFlow Lite Micro with CMSIS-NN (gcc -O3) was counted in the same emulator on its own models of these shapes.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
base=${CARGO_TARGET_DIR:-$root/target/boards}
work=$base/run
mkdir -p "$work"

# machine, target, flags of a core
core() {
    flags=
    case $1 in
        m0) machine=mps2-an385 target=thumbv6m-none-eabi ;;
        m3) machine=mps2-an385 target=thumbv7m-none-eabi ;;
        m4) machine=mps2-an386 target=thumbv7em-none-eabihf ;;
        m7) machine=mps2-an500 target=thumbv7em-none-eabihf ;;
        m33) machine=mps2-an505 target=thumbv8m.main-none-eabihf ;;
        m33-nodsp) machine=mps2-an505 target=thumbv8m.main-none-eabihf flags="-C target-cpu=cortex-m33 -C target-feature=-dsp" ;;
        m55) machine=mps3-an547 target=thumbv8m.main-none-eabihf flags="-C target-cpu=cortex-m55" ;;
        *) echo "unknown core $1" >&2; exit 2 ;;
    esac
}

# TensorFlow Lite Micro: instructions of a model on a core, or -.
peer() {
    case $1-$2 in
        resnet8-m4) echo 29873829 ;; dscnn-m4) echo 7845799 ;; mobilenetv1-m4) echo 24720367 ;; autoencoder-m4) echo 582323 ;;
        resnet8-m7) echo 29934978 ;; dscnn-m7) echo 7761770 ;; mobilenetv1-m7) echo 24483841 ;; autoencoder-m7) echo 582622 ;;
        resnet8-m55) echo 4810528 ;; dscnn-m55) echo 1785850 ;; mobilenetv1-m55) echo 6433540 ;; autoencoder-m55) echo 149963 ;;
        *) echo - ;;
    esac
}

(cd "$root" && cargo build --quiet --release -p stitchkit-tests --bin board-files --target-dir "$base")
printf '%-12s %-10s %12s %8s %8s %12s %8s\n' model core instructions per-MAC arena TFLM per-MAC
for model in ${MODELS:-resnet8 dscnn mobilenetv1 autoencoder}; do
    "$base/release/board-files" bundle "$model" "$work/bench-$model.stk"
    for name in ${CORES:-m0 m3 m4 m7 m33 m33-nodsp m55}; do
        core "$name"
        folder=$base
        if [ -n "$flags" ]; then folder=$base/$name; export RUSTFLAGS="$flags"; else unset RUSTFLAGS || true; fi
        (cd "$root/examples/qemu-cortex-m" && CARGO_TARGET_DIR=$folder STITCHKIT_BOARD=$machine STITCHKIT_BUNDLE="$work/bench-$model.stk" \
            cargo build --quiet --release --target "$target" --bin bench)
        unset RUSTFLAGS || true
        timeout 1200 qemu-system-arm -M "$machine" -nographic -monitor none -serial none -icount shift=3 \
            -semihosting-config "enable=on,target=native,arg=program,arg=steps=${STEPS:-no}" \
            -kernel "$folder/$target/release/bench" </dev/null >"$work/bench-$model-$name.log" 2>&1
        if [ "${STEPS:-no}" = yes ]; then grep -E '^(bench| )' "$work/bench-$model-$name.log"; fi
        grep '^{' "$work/bench-$model-$name.log" | tail -n 1 | sed 's/[{}"]//g; s/,/\n/g' | awk -F: \
            -v model="$model" -v name="$name" -v peer="$(peer "$model" "$name")" '
            { figure[$1] = $2 }
            END {
                printf "%-12s %-10s %12d %8.3f %8d %12s %8s\n", model, name, figure["instructions"],
                    figure["instructions"] / figure["macs"], figure["arena_bytes"], peer,
                    peer == "-" ? "-" : sprintf("%.3f", peer / figure["macs"])
            }'
    done
done
