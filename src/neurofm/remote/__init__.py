"""The remote: where artefacts are kept for others, in DVC's own layout: plain `dvc push` and `dvc pull` work too."""
