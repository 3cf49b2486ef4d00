#!/usr/bin/env bash
# Instructions that one inference takes on Linux-class Arm, and whether any figure rose: a table of plans by emulated processors,
# one for every level of the kernels that is chosen at run time. The bundle has layers of the sizes that networks have, a plan
# per family and per operator (tests/src/networks.rs); it needs no data set.
#
#   tests/arm-instructions.sh                  the table
#   tests/arm-instructions.sh --check FILE     and fails if a figure is more than 2 % above that of FILE (10 % if FILE's figures
#                                              come from another compiler), if a processor runs other kernels, or if a figure
#                                              is in one of both alone; names figures more than 2 % below
#   tests/arm-instructions.sh --update FILE    and writes FILE
#
# Kernels that compute the same bytes in more instructions fail no other test: an operator that is sent to scalar code, a level
# that is no longer found. The committed baseline is tests/arm-baseline.txt; who changes kernels on purpose updates it in
# the same commit. Counted is what a run of twelve inferences takes more than one of two. Exit status 0, 1 if the check fails,
# 2 if nothing could be counted.
#
# Environment:
#   STITCHKIT_CROSS_BUILD  0 uses the programs that an earlier run of this or of tests/cross.sh built; default 1
#   STITCHKIT_CROSS_DIR    where programs and counts are kept; default target/cross

set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
tolerance_percent=2
tolerance_other_compiler_percent=10

give_up() {
    echo "arm-instructions: $1" >&2
    exit 2
}

# shellcheck source=tests/linux-arm.sh
. "$root/tests/linux-arm.sh"

aarch64="aarch64-unknown-linux-gnu"
armv7="armv7-unknown-linux-gnueabihf"
# Armv8.0, the dot product too, the matrix instructions too; 32 bits with and without vectors.
processors=(cortex-a53 neoverse-n1 max "$with_neon" "$without_neon")
board_files=$target_dir/release/board-files
bundle=$work/out/networks.stk
input=$work/out/networks.in
found=$work/out/arm-instructions

# The words that run the bundle on a processor.
runner_on() {
    case $1 in
        cortex-a7*) echo "qemu-arm -cpu $1 -L $sysroot_armv7 $(program $armv7 kernels) $bundle" ;;
        *) echo "qemu-aarch64 -cpu $1 -L $sysroot_aarch64 $(program $aarch64 kernels) $bundle" ;;
    esac
}

prepare() {
    if [ "${STITCHKIT_CROSS_BUILD:-1}" = 1 ]; then
        build $aarch64 kernels
        build $armv7 kernels
        (cd "$root" && cargo build --quiet --release -p stitchkit-tests --bin board-files) || give_up "the build failed"
    fi
    build_counter
    [ -x "$board_files" ] || give_up "no $board_files; leave out STITCHKIT_CROSS_BUILD=0"
    "$board_files" bundle networks "$bundle"
    "$board_files" inputs "$bundle" 1 "$input"
}

# The kernels that a processor is given.
kernels_of() {
    local words
    read -ra words <<<"$(runner_on "$1")"
    "${words[@]}" --plan 0 --input "$input" --json 2>/dev/null | grep -o '"isa":"[^"]*"' | cut -d'"' -f4
}

# A line per processor and plan: processor, kernels, plan, instructions.
count_all() {
    local processor kernels words index name one
    for processor in "${processors[@]}"; do
        read -ra words <<<"$(runner_on "$processor")"
        kernels=$(kernels_of "$processor") || give_up "the program does not run on $processor"
        while IFS=' :' read -r _ index name _; do
            one=$(instructions_per_inference 2 12 "${words[@]}" --plan "$index" --input "$input" </dev/null) ||
                give_up "plan $name does not run on $processor"
            echo "$processor $kernels $name $one"
        done < <("$board_files" table "$bundle" | grep '^plan ')
    done
}

# The lines of a file of counts as a table of plans by processors.
show() {
    awk '!/^#/ {
        if (!(($1, $2) in column)) { column[$1, $2] = ++columns; processor[columns] = $1; kernels[columns] = $2 }
        if (!($3 in row)) { row[$3] = ++rows; plan[rows] = $3 }
        count[row[$3], column[$1, $2]] = $4
    }
    END {
        printf "%-12s", "plan"; for (c = 1; c <= columns; c++) printf " %18s", processor[c]; print ""
        printf "%-12s", ""; for (c = 1; c <= columns; c++) printf " %18s", kernels[c]; print ""
        for (r = 1; r <= rows; r++) {
            printf "%-12s", plan[r]; for (c = 1; c <= columns; c++) printf " %18s", count[r, c]; print ""
        }
    }' "$1"
}

# Compares the counts with a baseline; fails if any is worse.
check() {
    local baseline=$1 percent=$tolerance_percent
    if [ "$(head -1 "$baseline")" != "$(head -1 "$found")" ]; then
        percent=$tolerance_other_compiler_percent
        echo "the baseline's compiler is another one: $(head -1 "$baseline"); $percent % are tolerated"
    fi
    awk -v percent=$percent -v update="tests/arm-instructions.sh --update ${baseline#"$root/"}" '
    /^#/ { next }
    { key = $1 " " $3 }
    NR == FNR { kernels[key] = $2; before[key] = $4; next }
    { here = "plan " $3 " on " $1 " (" $2 "): "; seen[key] = 1 }
    !(key in before) { print "FAIL " here $4 " instructions, not in the baseline"; failed++; next }
    kernels[key] != $2 { print "FAIL " here "the baseline ran the kernels " kernels[key]; failed++; next }
    {
        change = sprintf("%d instructions, %d in the baseline (%+.1f %%)", $4, before[key], 100 * ($4 / before[key] - 1))
        if ($4 > before[key] * (1 + percent / 100)) { print "FAIL " here change; failed++ }
        else if ($4 < before[key] * (1 - percent / 100)) { print "less " here change; less++ }
    }
    END {
        for (key in before) if (!(key in seen)) { print "FAIL " key ": in the baseline alone"; failed++ }
        if (less) print less " figures are lower: keep that with " update
        if (!failed) exit 0
        print failed " figures fail. If operators of these plans should take more instructions, commit what this writes: " update
        print "If not, see in device-runtime/src/kernels whether these kernels still reach their own version of the operator."
        exit 1
    }' "$baseline" "$found"
}

task=${1:-show}
case "$# $task" in
    "0 show") ;;
    "2 --check") [ -r "$2" ] || give_up "cannot read $2" ;;
    "2 --update") ;;
    *) give_up "usage: tests/arm-instructions.sh [--check FILE | --update FILE]" ;;
esac
prepare
{
    rustc --version | awk '{ print "# " $1, $2 }'
    echo "# processor, kernels, plan, instructions per inference; tests/arm-instructions.sh --update writes this"
    count_all
} >"$found"
show "$found"
case $task in
    --check) check "$(realpath "$2")" ;;
    --update)
        cp "$found" "$2.new"
        mv "$2.new" "$2"
        ;;
esac
