#!/usr/bin/env bash
# Training on a machine without network: what to call there, after scripts/pack_offline_training.sh made the parts here.
#
#   offline_training.sh unpack PART...        take in parts, all or some at a time; with the last one, install
#   offline_training.sh generate OPTIONS...   renderformer data generate with a process per core; stops in time
#   offline_training.sh train OPTIONS...      renderformer train; stops in time
#   offline_training.sh collect RUN DIR       the run's weights in files of at most 16 MB; `collect --state` the whole run,
#                                             for going on on a machine that does not have it any more
#   offline_training.sh join DIR RUN          the inverse of collect
#
# Whatever stops in time, after MINUTES (9), goes on when it is called again. Everything lies in WORK (/tmp/renderformer),
# where paths in the options start. The machine needs python3 with torch.
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
  cat $(printf '%s\n' "${parts[@]}" | sort -V) | tar -x -C "$work" || fail "the parts do not fit together; carry them again"
  (cd "$work" && sha256sum --quiet --strict -c SHA256SUMS) || fail "the parts are damaged; carry them again"
  python3 -m pip install -q --disable-pip-version-check --no-index --no-deps --no-compile --target "$work/site" "$work"/wheels/*.whl
  renderformer --version
}

generate() {
  # Killed at any moment it goes on where it was, so there is nothing to wait for.
  local code=0
  (export OMP_NUM_THREADS=1; cd "$work"; PYTHONPATH="$work/site" timeout -s KILL "${minutes}m" \
    python3 -c 'from renderformer.cli.main import main; main()' data generate --workers "$(nproc)" "$@") || code=$?
  [ "$code" -eq 137 ] && { echo "stopped in time; call it again to go on"; return; }
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
