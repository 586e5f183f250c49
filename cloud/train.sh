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
spent=0
if [ -e "$spent_file" ]; then
    spent=$(cat "$spent_file")
    if ! [[ $spent =~ ^(0|[1-9][0-9]*)$ ]]; then
        echo "error: $spent_file holds no number of seconds. Mend: write into it what was spent, or remove it for a new budget" >&2
        exit 2
    fi
fi
if [ "$spent" -ge "$budget" ]; then
    echo "The budget is spent: $spent of $budget s. To go on where it stopped: a larger NEUROFM_HOURS" >&2
    exit 75
fi
began=$SECONDS
note() { # Whole or not at all: a machine that is taken away half-way through writing must not open the budget anew.
    echo $((spent + SECONDS - began)) >"$state/.spent.$BASHPID"
    mv "$state/.spent.$BASHPID" "$spent_file"
}
count() {
    while true; do
        note
        sleep 20 >/dev/null 2>&1 # It outlives this loop, and must not hold the job's output open.
    done
}
count &
counting=$!
trap 'kill "$counting" 2>/dev/null || true; note' EXIT

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
shopt -s nullglob
cp metrics/*.json metrics/*.csv "$state/handback/"
echo "Handed back: $state/handback"
