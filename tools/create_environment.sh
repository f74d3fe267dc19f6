#!/usr/bin/env bash
# Makes the virtual environment DIR with the newest Python >= 3.11 found here.
# On Debian and Ubuntu the `venv` module may be a package of its own: root gets it installed,
# anybody else is told the command.
set -euo pipefail
directory="${1:?usage: create_environment.sh DIR}"

usable() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

find_python() {
  local candidate
  for candidate in "${PYTHON:-}" python3 python3.13 python3.12 python3.11; do
    if [ -n "$candidate" ] && command -v "$candidate" >/dev/null && usable "$candidate"; then
      echo "$candidate"
      return
    fi
  done
}

python="$(find_python)"
if [ -z "$python" ]; then
  echo "No Python 3.11 or newer was found. Install one (apt-get install python3.11 where the" >&2
  echo "distribution has it) or name it: make PYTHON=/path/to/python3" >&2
  exit 1
fi
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
  version="$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')"
  "$(dirname "$0")/install_system_package.sh" "python$version-venv" required
fi
"$python" -m venv "$directory"
