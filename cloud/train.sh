#!/usr/bin/env bash
# Trains under a budget on a machine that may be taken away at any moment, and hands the result back.
# Started by the tasks beside it (docs/cloud.md); works the same on any machine with NEUROFM_STATE on a disk that stays.
set -euo pipefail
cd "$(dirname "$0")/.."
remote=${NEUROFM_REMOTE:?the DVC remote with shards and splits, as s3://BUCKET/FOLDER}
state=${NEUROFM_STATE:?a folder that outlives this machine: checkpoints, the budget, what is handed back}
read -ra stages <<<"${NEUROFM_STAGES:-pretrain}"
budget=$(awk -v hours="${NEUROFM_HOURS:-6}" 'BEGIN { printf "%d", hours * 3600 }')
export PATH="$PWD/.venv/bin:$PATH" OMP_NUM_THREADS=1 DVC_NO_ANALYTICS=1

# The budget is that of all tries of this training together.
mkdir -p "$state/runs" "$state/handback" .neurofm
spent_file="$state/spent-$(cat dvc.lock params.yaml | sha256sum | cut -c1-16)"
spent=$(cat "$spent_file" 2>/dev/null || echo 0)
if [ "$spent" -ge "$budget" ]; then
    echo "The budget is spent: $spent of $budget s. To go on where it stopped: a larger NEUROFM_HOURS" >&2
    exit 75
fi
began=$SECONDS
count() {
    while true; do
        echo $((spent + SECONDS - began)) >"$spent_file"
        sleep 20
    done
}
count &
counting=$!
trap 'kill "$counting" 2>/dev/null || true; echo $((spent + SECONDS - began)) >"$spent_file"' EXIT

# Training keeps its state in .neurofm/runs and goes on from there, to the same bits.
if [ ! -L .neurofm/runs ]; then
    if [ -e .neurofm/runs ]; then
        echo "error: .neurofm/runs holds runs of this machine. Mend: mv .neurofm/runs/* $state/runs/ && rmdir .neurofm/runs" >&2
        exit 2
    fi
    ln -s "$(realpath "$state/runs")" .neurofm/runs
fi

# SkyPilot leaves .git out of what it uploads for a managed job.
git rev-parse --git-dir >/dev/null 2>&1 || dvc config --local core.no_scm true
dvc remote add --quiet --local --force --default cloud "$remote"
neurofm doctor || echo "going on all the same" >&2

listed=$(python cloud/needs.py "${stages[@]}")
mapfile -t needed <<<"$listed"
dvc pull "${needed[@]}" || dvc pull "${needed[@]}"

left=$((budget - spent - (SECONDS - began)))
code=0
timeout --signal=INT --kill-after=60 "$((left > 0 ? left : 1))" dvc repro --single-item "${stages[@]}" || code=$?
if [ "$code" -eq 124 ] || [ "$code" -eq 137 ]; then
    echo "The budget of $budget s is spent; what was learned is kept. To go on: a larger NEUROFM_HOURS" >&2
    exit 75
fi
[ "$code" -eq 0 ] || exit "$code"

dvc push "${stages[@]}" || dvc push "${stages[@]}"
cp dvc.lock "$state/handback/dvc.lock"
cp metrics/*.json "$state/handback/"
echo "Handed back: $state/handback"
