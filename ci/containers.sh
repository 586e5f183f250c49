#!/usr/bin/env bash
# Build the project's image, push it, and write the address with its digest to image.env.
set -euo pipefail
target=${NEUROFM_IMAGE_TARGET:-docker://$CI_REGISTRY_IMAGE/neurofm:$CI_COMMIT_SHORT_SHA}
containerfile=${NEUROFM_CONTAINERFILE:-containers/neurofm/Containerfile}
: "${NEUROFM_BASE_IMAGE:?give the base image by its digest, as docker.io/library/debian@sha256:...}"
case $NEUROFM_BASE_IMAGE in
    scratch | *@sha256:*) ;;
    *) echo "error: NEUROFM_BASE_IMAGE is not pinned by digest. Mend: append @sha256:..." >&2; exit 2 ;;
esac
export BUILDAH_ISOLATION=${BUILDAH_ISOLATION:-chroot} STORAGE_DRIVER=${STORAGE_DRIVER:-vfs}
if [ -n "${CI_REGISTRY_PASSWORD:-}" ] && [ "${target#docker://}" != "$target" ]; then
    printf %s "$CI_REGISTRY_PASSWORD" | buildah login --username "$CI_REGISTRY_USER" --password-stdin "$CI_REGISTRY"
fi
id=$(mktemp)
buildah build --timestamp 0 --file "$containerfile" --build-arg BASE="$NEUROFM_BASE_IMAGE" --iidfile "$id" .
digest=$(mktemp)
buildah push --digestfile "$digest" "$(cat "$id")" "$target"
name=${target#docker://}
printf 'NEUROFM_IMAGE=%s@%s\n' "${name%:*}" "$(cat "$digest")" | tee image.env
