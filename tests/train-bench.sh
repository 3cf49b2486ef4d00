#!/usr/bin/env bash
# Training throughput beside PyTorch: same network, batch and threads, run alternately; images per CPU-second and their ratio.
# usage: tests/train-bench.sh [ROUNDS] [SECONDS]    per network and side; PYTHON names an interpreter with torch, THREADS defaults to 1
# The unit is CPU time, so other work on the machine disturbs both sides alike; compare ratios within a round.
set -euo pipefail
cd "$(dirname "$0")/.."
rounds=${1:-5} seconds=${2:-4} python=${PYTHON:-python3} threads=${THREADS:-1}
"$python" -c 'import torch' 2>/dev/null || { echo "skipped: $python has no torch (set PYTHON)"; exit 0; }
cargo build -q --release -p stitchkit --example train-bench
bench="$(realpath -m "${CARGO_TARGET_DIR:-target}")/release/examples/train-bench"
for case in "resnet20 64" "resnet20 128" "vit 64" "vit 128"; do
    read -r network batch <<<"$case"
    ratios=()
    for ((round = 1; round <= rounds; round++)); do
        ours=$(RAYON_NUM_THREADS=$threads "$bench" speed "$network" "$batch" "$seconds")
        theirs=$("$python" tests/train-bench.py "$network" "$batch" "$seconds" "$threads")
        ratio=$(awk -v a="${ours%% *}" -v b="${theirs%% *}" 'BEGIN { printf "%.2f", a / b }')
        ratios+=("$ratio")
        printf '%-9s batch %-4s ours %8s  torch %8s  ratio %s\n' "$network" "$batch" "${ours%% *}" "${theirs%% *}" "$ratio"
    done
    printf '%s\n' "${ratios[@]}" | sort -n | awk -v c="$case" '{ r[NR] = $1 } END { printf "%s: median ratio %s (%s to %s)\n", c, r[int((NR + 1) / 2)], r[1], r[NR] }'
done
