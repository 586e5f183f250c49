#!/usr/bin/env bash
# Debian packages that the tests use, where this is a Debian machine and may install them.
set -euo pipefail
# chromium: the report is opened in a real browser by its test. e2fsprogs, mount: a small filesystem of its own
# shows that streaming stays within its disk budget. git-annex: OpenNeuro's repositories are made by it.
# slurm-wlm, munge: units run on a real cluster of one machine. nodejs, npm, rsync: gitlab-ci-local runs the pipeline.
# buildah, podman, runc: containers are built and run.
packages=(git make python3-venv chromium e2fsprogs mount git-annex slurm-wlm munge rsync buildah podman runc)
[ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || exit 0
# Node's own packages bring npm along, and do not go together with Debian's.
command -v npm >/dev/null || packages+=(nodejs npm)
missing=()
for package in "${packages[@]}"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'install ok' || missing+=("$package")
done
if [ "${#missing[@]}" -gt 0 ]; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi
