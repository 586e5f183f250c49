"""Where an artefact comes from: what dvc.lock, git and the stages' own records say of it."""
