#!/usr/bin/env bash
# What the archives have now: facts compared, lists of files pinned anew, manifests made anew; then a merge request.
# A dataset that fails is said and passed over; the job ends with the code of the last one, after all else is done.
set -euo pipefail
branch=neurofm/refresh-manifests
url=${NEUROFM_PUSH_URL:-$CI_PROJECT_URL.git}
email=neurofm-ci@noreply.invalid
failed=0
stages=$(dvc stage list --name-only | grep -E '^manifest(_streamed)?@' || true)
for stage in $stages; do
    dataset=${stage#*@}
    neurofm catalog verify "$dataset" || failed=$?
    if [ -f "data/catalog/pins/$dataset.json" ]; then
        neurofm catalog pin --yes "$dataset" || failed=$?
    fi
done
# One after the other: dvc commands in one workspace wait for each other.
before=$(mktemp)
for stage in $stages; do
    : >"$before"
    [ ! -f dvc.lock ] || cp dvc.lock "$before"
    if ! { dvc repro --force --single-item "$stage" && dvc push "$stage"; }; then
        # A manifest that is not on the remote would be of no use to the jobs that read it.
        if [ -s "$before" ]; then cp "$before" dvc.lock; else rm -f dvc.lock; fi
        failed=1
        echo "error: $stage failed, for what stands above. Mend: run this job again when its archive answers" >&2
    fi
done
export GIT_AUTHOR_NAME="neurofm CI" GIT_AUTHOR_EMAIL=$email GIT_TERMINAL_PROMPT=0
export GIT_COMMITTER_NAME=$GIT_AUTHOR_NAME GIT_COMMITTER_EMAIL=$email
git add data/catalog
[ ! -f dvc.lock ] || git add dvc.lock
if git diff --cached --quiet; then
    echo "The archives have what the manifests say."
    exit "$failed"
fi
git diff --cached --stat
[ -n "${NEUROFM_CI_TOKEN:-}" ] || exit "$failed"

helper='!f() { echo username=oauth2; echo "password=$NEUROFM_CI_TOKEN"; }; f'
remote() { git -c credential.helper= -c credential.helper="$helper" "$@"; }
tip=$(remote ls-remote "$url" "refs/heads/$branch" | cut -f1)
if [ -n "$tip" ]; then
    remote fetch --quiet "$url" "$tip"
    others=$(git log --format='%ae%n%ce' "$tip" --not HEAD | grep -vxF "$email" | sort -u | paste -sd' ' || true)
    if [ -n "$others" ]; then
        echo "error: $branch has commits of $others, which stay. Mend: merge it, or delete it, and run this job again;" \
            "what was found now is among its artefacts" >&2
        exit 1
    fi
fi
git commit --quiet --message "Manifests as the archives have them on $(date -u +%F)"
# The branch is replaced, if it is still what was looked at.
remote push --quiet --force-with-lease="refs/heads/$branch:$tip" \
    ${NEUROFM_PUSH_OPTIONS---push-option=merge_request.create --push-option=merge_request.target="$CI_DEFAULT_BRANCH"} \
    "$url" "HEAD:refs/heads/$branch"
exit "$failed"
