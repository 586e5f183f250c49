"""The remote: where artefacts are kept for others, in DVC's own layout, so that plain `dvc push` and `dvc pull` work."""
