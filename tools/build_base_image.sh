#!/usr/bin/env bash
# Makes fluidpy's own image, which the images of plug-ins stand on, with buildah, podman or docker.
#   build_base_image.sh [IMAGE] [BASE]     localhost/fluidpy:latest on python:3.12-slim by default
# Without a registry, give a local BASE that has Python (with venv) of the version of this environment:
# its wheels are made here.
set -euo pipefail
cd "$(dirname "$0")/.."
image="${1:-localhost/fluidpy:latest}"
base="${2:-}"
python="${PYTHON:-.venv/bin/python}"
builder=""
for one in buildah podman docker; do
  if command -v "$one" >/dev/null; then builder="$one"; break; fi
done
[ -n "$builder" ] || { echo "no image builder is here: apt-get install buildah" >&2; exit 1; }
verb=build
[ "$builder" != buildah ] || verb=bud

rm -rf runtimes/base/wheels
"$python" -m pip wheel --quiet --disable-pip-version-check --wheel-dir runtimes/base/wheels \
  '.[worker,cluster,control,cli]'
"$builder" "$verb" ${base:+--build-arg=BASE="$base"} --tag "$image" runtimes/base
