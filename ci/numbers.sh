#!/usr/bin/env bash
# What a merge request shows: numbers and plots of now against a revision, and the report.
set -euo pipefail
base=$1
neurofm ci numbers "$base"
# Plots are outputs that DVC keeps; where the remote does not have those of either side there is nothing to draw.
dvc pull --allow-missing metrics/dvclive reports/report.html reports/fmri.html reports/eeg.html reports/animals.html reports/model.html
dvc plots diff "$base" --out reports/changes/plots || echo "no plots to compare"
cp reports/report.html reports/fmri.html reports/eeg.html reports/animals.html reports/model.html reports/changes/ 2>/dev/null || echo "no report yet"
