#!/usr/bin/env bash
# Installs what a fresh Debian-like machine lacks. Usage: tests/setup.sh host|all
#   host: a C compiler, for tract's kernels and the host tools
#   all:  also cross compilers, QEMU and Rust targets, for the whole test suite
set -euo pipefail
cd "$(dirname "$0")/.."

want() { # command package
    command -v "$1" >/dev/null || missing+=("$2")
}

missing=()
want cc build-essential
if [ "${1:-host}" = all ]; then
    want aarch64-linux-gnu-gcc gcc-aarch64-linux-gnu
    want arm-linux-gnueabihf-gcc gcc-arm-linux-gnueabihf
    want qemu-aarch64 qemu-user
    want qemu-arm qemu-user
    want qemu-system-arm qemu-system-arm
    want python3 python3
    want arm-none-eabi-gcc gcc-arm-none-eabi
    [ -e /usr/lib/arm-none-eabi/newlib/libc.a ] || [ -e /usr/arm-none-eabi/lib/libc.a ] || missing+=(libnewlib-arm-none-eabi)
    [ -e /usr/aarch64-linux-gnu/lib/libc.so.6 ] || missing+=(libc6-dev-arm64-cross)
    [ -e /usr/arm-linux-gnueabihf/lib/libc.so.6 ] || missing+=(libc6-dev-armhf-cross)
fi
if [ ${#missing[@]} -gt 0 ]; then
    sudo=""
    [ "$(id -u)" = 0 ] || sudo=sudo
    $sudo apt-get update -q
    DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -q --no-install-recommends "${missing[@]}"
fi

command -v cargo >/dev/null || { echo "error: cargo not found; install Rust from https://rustup.rs" >&2; exit 1; }
if [ "${1:-host}" = all ]; then
    rustup target add aarch64-unknown-linux-gnu aarch64-unknown-linux-musl armv7-unknown-linux-gnueabihf \
        thumbv6m-none-eabi thumbv7m-none-eabi thumbv7em-none-eabihf thumbv8m.main-none-eabi thumbv8m.main-none-eabihf
fi
