#!/usr/bin/env bash
# Makes .venv from requirements.lock on a fresh machine.
set -euo pipefail
cd "$(dirname "$0")/.."
command -v make >/dev/null || { sudo apt-get update -qq && sudo apt-get install -y -qq make; }
for python in python3.13 python3.12 python3.11 python3 ""; do
    # Images of clouds often have an older Python only; uv brings one.
    if [ -z "$python" ]; then
        python3 -m pip install --quiet --user uv
        python3 -m uv python install --quiet 3.11
        python=$(python3 -m uv python find 3.11)
    fi
    if "$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        break
    fi
done
make env PYTHON="$python"
