#!/bin/sh
#SBATCH --job-name=stitches
#SBATCH --array=1-16
#SBATCH --cpus-per-task=4
#SBATCH --time=04:00:00
#
# One part of a measurement per task of the array. Merge when all are done:
#
#   part=$(sbatch --parsable examples/cluster/slurm-array.sh FAMILY RESULTS)
#   sbatch --dependency=afterok:$part --wrap 'stitchkit merge RESULTS/part-*.jsonl --cache FAMILY/family.cache.json --json > RESULTS/stitches.json'
#
# A task that failed is repeated alone: sbatch --array=7 would count another N, so name it:
#   sbatch --array=7 --export=ALL,PARTS=16 examples/cluster/slurm-array.sh FAMILY RESULTS
set -eu

family=$1
results=$2
parts=${PARTS:-$SLURM_ARRAY_TASK_COUNT}

mkdir -p "$results"
export RAYON_NUM_THREADS="${SLURM_CPUS_PER_TASK:-1}"
exec "${STITCHKIT:-stitchkit}" stitches "$family" --evaluate --cache none --quiet \
    --shard "$SLURM_ARRAY_TASK_ID/$parts" --out "$results/part-$SLURM_ARRAY_TASK_ID.jsonl"
