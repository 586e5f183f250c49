# Sourced by every job: the environment that is ready ($NEUROFM_VENV, as in the project's image), or one from the lock.
# MAKE_READY is for `make $MAKE_READY TARGET`, which then leaves an environment that was given as it is.
export UV_CACHE_DIR="$PWD/.cache/uv"
if [ -n "${NEUROFM_VENV:-}" ]; then
    ln -sfn "$NEUROFM_VENV" .venv
    export MAKE_READY="--old-file=.venv/.ready"
else
    export MAKE_READY=
    make env
fi
export PATH="$PWD/.venv/bin:$PATH"
export PYTHONPATH="$PWD/src"
