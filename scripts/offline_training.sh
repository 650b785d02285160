#!/usr/bin/env bash
# Trains on a machine without network, from the parts that scripts/pack_offline_training.sh makes.
#
#   offline_training.sh unpack PART...        store parts, all or some at a time; install when all are there
#   offline_training.sh generate OPTIONS...   renderformer data generate with a process per core, for MINUTES
#   offline_training.sh train OPTIONS...      renderformer train, for MINUTES
#   offline_training.sh collect RUN DIR       the run's weights in files of at most 16 MB; `collect --state RUN DIR`: the
#                                             whole run, to continue it on another machine
#   offline_training.sh join DIR RUN          the inverse of collect
#
# generate and train stop after MINUTES (9) and continue when they are called again. All files are in WORK
# (/tmp/renderformer); relative paths in the options start there. The machine needs python3 with torch.
set -euo pipefail

work=${WORK:-/tmp/renderformer}
minutes=${MINUTES:-9}
mkdir -p "$work/parts"
fail() { echo "error: $*" >&2; exit 1; }

renderformer() {
  cd "$work"
  [ -d site ] || fail "nothing is installed in $work; call unpack first"
  PYTHONPATH="$work/site" python3 -c 'from renderformer.cli.main import main; main()' "$@"
}

unpack() {
  cp "$@" "$work/parts/"
  local parts=("$work"/parts/part_*_of_*)
  local total=${parts[0]##*_of_}
  [ "${#parts[@]}" -eq "$total" ] || { echo "${#parts[@]} of $total parts are here"; return; }
  rm -rf "$work/site" "$work/wheels"
  cat $(printf '%s\n' "${parts[@]}" | sort -V) | tar -x -C "$work" || fail "the parts do not fit together; copy them again"
  (cd "$work" && sha256sum --quiet --strict -c SHA256SUMS) || fail "the parts are damaged; copy them again"
  python3 -m pip install -q --disable-pip-version-check --no-index --no-deps --no-compile --target "$work/site" "$work"/wheels/*.whl
  renderformer --version
}

generate() {
  # A killed run continues where it was, so SIGKILL does no harm.
  local code=0
  (export OMP_NUM_THREADS=1; cd "$work"; PYTHONPATH="$work/site" timeout -s KILL "${minutes}m" \
    python3 -c 'from renderformer.cli.main import main; main()' data generate --workers "$(nproc)" "$@") || code=$?
  [ "$code" -eq 137 ] && { echo "stopped after $minutes minutes; call it again to continue"; return; }
  return "$code"
}

collect() {
  local what=model
  [ "$1" = --state ] && { what=.; shift; }
  [ -e "$work/$1/$what" ] || fail "$work/$1 holds no $what yet"
  mkdir -p "$2"
  rm -f "$2"/run.*
  tar -c -C "$work/$1" "$what" | split -b 16000000 -d -a 3 - "$2/run."
  ls -l "$2"
}

join() {
  mkdir -p "$work/$2"
  cat "$1"/run.* | tar -x -C "$work/$2"
}

command=${1:-}
shift || true
case $command in
  unpack | generate | collect | join) "$command" "$@" ;;
  train) renderformer train --minutes "$minutes" "$@" ;;
  *) sed -n '3,13s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
