#!/usr/bin/env bash
# What the archives have now: facts compared, lists of files pinned anew, manifests made anew; then a merge request.
# It ends with the code of `neurofm catalog verify`, so that a fact which is wrong, or an archive that is silent, shows.
set -euo pipefail
verified=0
stages=$(dvc stage list --name-only | grep -E '^manifest(_streamed)?@' || true)
for stage in $stages; do
    dataset=${stage#*@}
    neurofm catalog verify "$dataset" || verified=$?
    if [ -f "data/catalog/pins/$dataset.json" ]; then
        neurofm catalog pin --yes "$dataset" || verified=$?
    fi
done
# One after the other: dvc commands in one workspace wait for each other.
for stage in $stages; do
    dvc repro --force --single-item "$stage"
    dvc push "$stage"
done
export GIT_AUTHOR_NAME="neurofm CI" GIT_AUTHOR_EMAIL="neurofm-ci@noreply.invalid"
export GIT_COMMITTER_NAME=$GIT_AUTHOR_NAME GIT_COMMITTER_EMAIL=$GIT_AUTHOR_EMAIL GIT_TERMINAL_PROMPT=0
git add data/catalog dvc.lock
if git diff --cached --quiet; then
    echo "The archives have what the manifests say."
    exit "$verified"
fi
git diff --cached --stat
if [ -n "${NEUROFM_CI_TOKEN:-}" ]; then
    helper='!f() { echo username=oauth2; echo "password=$NEUROFM_CI_TOKEN"; }; f'
    git commit --quiet --message "Manifests as the archives have them on $(date -u +%F)"
    git -c credential.helper= -c credential.helper="$helper" push --quiet --force \
        ${NEUROFM_PUSH_OPTIONS---push-option=merge_request.create --push-option=merge_request.target="$CI_DEFAULT_BRANCH"} \
        "${NEUROFM_PUSH_URL:-$CI_PROJECT_URL.git}" HEAD:refs/heads/neurofm/refresh-manifests
fi
exit "$verified"
