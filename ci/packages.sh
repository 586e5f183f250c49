#!/usr/bin/env bash
# Debian packages that the tests use, where this is a Debian machine and may install them.
set -euo pipefail
# chromium: the report is opened in a real browser by its test. e2fsprogs, xfsprogs, mount: small filesystems of their
# own show that streaming stays within its disk budget, and which links a cache can make. git-annex: OpenNeuro's
# repositories are made by it. slurm-wlm, munge: units run on a real cluster of one machine. nodejs, npm, rsync:
# gitlab-ci-local runs the pipeline. buildah, podman and what follows: containers are built and run, on a base made by
# mmdebstrap. rclone, fuse3: a bucket is mounted, as SkyPilot does it. shellcheck: scripts are read by it.
packages=(
    git make python3-venv chromium e2fsprogs xfsprogs mount git-annex slurm-wlm munge rsync
    buildah podman podman-docker runc catatonit mmdebstrap rclone fuse3 shellcheck
)
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
