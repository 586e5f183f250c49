"""What a person runs beside the pipeline: preflight, adding a dataset."""
