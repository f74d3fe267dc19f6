#!/usr/bin/env bash
# Makes fluidpy's own image, which the images of plug-ins stand on, with buildah, podman or docker.
#   build_base_image.sh [IMAGE] [BASE]     localhost/fluidpy:latest on the registry's Python of this environment's version
# Without a registry, give a local BASE that has Python (with venv) of that version: the wheels are made here.
# Without an index of packages, set WHEELS to a folder that has them all.
set -euo pipefail
cd "$(dirname "$0")/.."
image="${1:-localhost/fluidpy:latest}"
python="${PYTHON:-.venv/bin/python}"
version="$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')"
base="${2:-docker.io/library/python:$version-slim-bookworm}"

builder=""
for one in buildah podman docker; do
  command -v "$one" >/dev/null || continue
  # The docker client alone builds nothing.
  if [ "$one" != docker ] || docker info >/dev/null 2>&1; then builder="$one"; break; fi
done
[ -n "$builder" ] || { echo "no image builder works here: apt-get install buildah" >&2; exit 1; }

context="$(mktemp -d)"
trap 'rm -rf "$context"' EXIT
cp runtimes/base/Dockerfile runtimes/base/install-packages "$context"
if [ -n "${WHEELS:-}" ]; then
  cp -r "$WHEELS" "$context/wheels"
else
  "$python" -m pip wheel --quiet --disable-pip-version-check --wheel-dir "$context/wheels" \
    '.[worker,cluster,control,cli]'
fi
"$builder" build --build-arg=BASE="$base" --tag "$image" "$context"
