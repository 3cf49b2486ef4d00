# shellcheck shell=bash disable=SC2034
# Sourced by cross.sh and arm-instructions.sh, which set `root` and define `give_up`: the programs for Linux on Arm, where they
# are kept, and what one inference takes under qemu-user.

target_dir=$(realpath -m "${CARGO_TARGET_DIR:-$root/target}")
export CARGO_TARGET_DIR=$target_dir
work=${STITCHKIT_CROSS_DIR:-$target_dir/cross}
sysroot_aarch64=${STITCHKIT_SYSROOT_AARCH64:-/usr/aarch64-linux-gnu}
sysroot_armv7=${STITCHKIT_SYSROOT_ARMV7:-/usr/arm-linux-gnueabihf}
# 32-bit Arm processors with vectors and without.
with_neon=cortex-a7
without_neon=cortex-a7,neon=off

for tool in qemu-aarch64 qemu-arm; do
    command -v "$tool" >/dev/null || give_up "$tool is missing; Debian has it in qemu-user"
done
mkdir -p "$work/bin" "$work/out"

# The program for a target and backend. Target `host` is this machine.
program() {
    echo "$work/bin/stitchkit-device-$1-$2"
}

# Builds the program for a target and backend and keeps a copy: both backends build to the same path. Backend `static` is the
# step loop without shared libraries.
build() {
    local target=$1 backend=$2 options=() flags=() links=()
    [ "$backend" != tract ] || options+=(--features tract)
    # Device programs abort on panic and never unwind, so they need no unwind information where a tool lets them go without, nor an
    # index of it. musl is static by itself; glibc when asked. Rust has musl for armv7 too, but not every mirror does.
    case "$backend $target" in
        "static "*-gnu*) flags=(RUSTFLAGS="-C target-feature=+crt-static") ;;
        "static "*) flags=(RUSTFLAGS="-C force-unwind-tables=no") links=(-C "link-arg=--no-eh-frame-hdr") ;;
        *) links=(-C "link-arg=-Wl,--no-eh-frame-hdr") ;;
    esac
    echo "building stitchkit-device: $target $backend" >&2
    (cd "$root" && env "${flags[@]}" cargo rustc --quiet --profile device -p stitchkit-device --bin stitchkit-device \
        --target "$target" "${options[@]}" -- "${links[@]}") ||
        give_up "the build failed"
    cp "$target_dir/$target/device/stitchkit-device" "$(program "$target" "$backend")"
}

# The plugin that counts.
build_counter() {
    cc -shared -fPIC -O2 -o "$work/count.so" "$root/tests/count-instructions.c" || give_up "the counter does not compile"
}

# Instructions of one inference: those of a run of MANY inferences less those of a run of FEW, over the difference. The words
# after FEW and MANY run a plan, an emulator first. Fails if they do.
instructions_per_inference() {
    local few=$1 many=$2 inferences counted counts=()
    shift 2
    for inferences in "$few" "$many"; do
        counted=$("$1" -plugin "file=$work/count.so" "${@:2}" --repeat "$inferences" 2>&1 >/dev/null |
            awk '/^instructions/ { print $2 }') && [ -n "$counted" ] || return 1
        counts+=("$counted")
    done
    echo $(((counts[1] - counts[0]) / (many - few)))
}
