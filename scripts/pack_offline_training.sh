#!/usr/bin/env bash
# Packs all that a GPU machine without network needs for training into parts of at most 60 MB:
#
#   pack_offline_training.sh DIR [DATASET...]
#
# The parts hold this package with its weights, configs/, the wheels that training and data generation need except torch, and
# the data sets (generate them there if none is given: a scene is a function of its seed). DIR gets the parts and
# offline_training.sh, which explains its commands. Run it in the repository, with the .venv of `make test`.
#
#   PYTHON_VERSION=3.12   the machine's (Linux, x86-64)
#   LEAVE_OUT="a b"       packages that the machine has; pip does not look for them
#   PART_BYTES=60000000   largest part
set -euo pipefail

[ $# -ge 1 ] || { sed -n '2,13s/^# \{0,1\}//p' "$0" >&2; exit 2; }
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=${PYTHON:-$root/.venv/bin/python}
version=${PYTHON_VERSION:-3.12}
mkdir -p "$1"
out=$(cd "$1" && pwd)
shift
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT

# The requirements of renderformer[train], recursively, in the versions that are installed here.
LEAVE_OUT="${LEAVE_OUT:-} torch triton imageio-ffmpeg" "$python" - "$version" "$root/pyproject.toml" >"$stage/requirements" <<'PYTHON'
import os, sys, tomllib
from importlib.metadata import PackageNotFoundError, distribution

from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

leave_out = {canonicalize_name(name) for name in os.environ["LEAVE_OUT"].split()}
target = {**default_environment(), "python_version": sys.argv[1], "python_full_version": sys.argv[1] + ".0"}
target |= {"sys_platform": "linux", "platform_system": "Linux", "platform_machine": "x86_64"}
with open(sys.argv[2], "rb") as file:
    project = tomllib.load(file)["project"]
extras = project["optional-dependencies"]
todo = [(line, "") for line in project["dependencies"] + extras["train"] + extras["reference"]]
versions = {}
while todo:
    line, extra = todo.pop()
    requirement = Requirement(line)
    name = canonicalize_name(requirement.name)
    needed = requirement.marker is None or requirement.marker.evaluate({**target, "extra": extra})
    if not needed or name in leave_out or name == "renderformer" or name in versions:
        continue
    try:
        package = distribution(name)
    except PackageNotFoundError:
        sys.exit(f"error: {name} is not installed here, so its version is not known; pip install -e '.[train]'")
    versions[name] = package.version
    todo += [(line, extra) for line in package.requires or [] for extra in ("", *requirement.extras)]
for name in sorted(versions):
    print(f"{name}=={versions[name]}")
PYTHON

platforms=()
for glibc in 2_39 2_35 2_34 2_31 2_28 2_27 2_24 2_17; do platforms+=(--platform "manylinux_${glibc}_x86_64"); done
platforms+=(--platform manylinux2014_x86_64 --platform manylinux2010_x86_64 --platform manylinux1_x86_64)
mkdir "$stage/wheels"
"$python" -m pip download -qq --disable-pip-version-check --no-deps --only-binary=:all: --python-version "$version" \
  --implementation cp "${platforms[@]}" -d "$stage/wheels" -r "$stage/requirements"
# Built from a copy: files of earlier builds in the repository would get into the wheel.
mkdir "$stage/source"
(cd "$root" && git ls-files -z | tar -c --null -T -) | tar -x -C "$stage/source"
"$python" -m pip wheel -qq --disable-pip-version-check --no-deps -w "$stage/wheels" "$stage/source"
rm -r "$stage/source"
cp -r "$root/configs" "$stage/configs"
for dataset in "$@"; do
  mkdir -p "$stage/datasets/$(basename "$dataset")"
  cp "$dataset"/manifest.json "$dataset"/shard_*.safetensors "$stage/datasets/$(basename "$dataset")/"
done

cd "$stage"
find . -type f ! -name SHA256SUMS -print0 | sort -z | xargs -0 sha256sum >SHA256SUMS
rm -f "$out"/part_*
tar -c . | split -b "${PART_BYTES:-60000000}" -d -a 3 - "$out/part_"
parts=("$out"/part_*)
for i in "${!parts[@]}"; do mv "${parts[$i]}" "$out/part_$((i + 1))_of_${#parts[@]}"; done
cp "$root/scripts/offline_training.sh" "$out/"
ls -l "$out"
