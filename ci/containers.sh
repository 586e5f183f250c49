#!/usr/bin/env bash
# Build the project's image, push it, and write its address with digest to image.yaml, as a line for site.yaml. The
# arguments are those of `neurofm container build`, which buildah's own image, without Python, cannot run.
set -euo pipefail
target=${NEUROFM_IMAGE_TARGET:-docker://$CI_REGISTRY_IMAGE/neurofm:$CI_COMMIT_SHORT_SHA}
containerfile=${NEUROFM_CONTAINERFILE:-containers/neurofm/Containerfile}
lock=$(sha256sum requirements.lock)
arguments=(--build-arg "LOCK=${lock%% *}")
if [ -n "${NEUROFM_BASE_IMAGE:-}" ]; then
    case $NEUROFM_BASE_IMAGE in
        *@sha256:*) ;;
        *) echo "error: NEUROFM_BASE_IMAGE is not pinned by digest. Mend: append @sha256:..." >&2; exit 2 ;;
    esac
    arguments+=(--build-arg "BASE=$NEUROFM_BASE_IMAGE")
fi
export BUILDAH_ISOLATION=${BUILDAH_ISOLATION:-chroot} STORAGE_DRIVER=${STORAGE_DRIVER:-vfs}
if [ -n "${CI_REGISTRY_PASSWORD:-}" ] && [ "${target#docker://}" != "$target" ]; then
    printf %s "$CI_REGISTRY_PASSWORD" | buildah login --username "$CI_REGISTRY_USER" --password-stdin "$CI_REGISTRY"
fi
id=$(mktemp)
buildah build --timestamp 0 --file "$containerfile" "${arguments[@]}" --iidfile "$id" .
digest=$(mktemp)
buildah push --digestfile "$digest" "$(cat "$id")" "$target"
name=${target#docker://}
printf 'image: %s@%s\n' "${name%:*}" "$(cat "$digest")" | tee image.yaml
