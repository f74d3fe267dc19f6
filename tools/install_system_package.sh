#!/usr/bin/env bash
# Installs one Debian package when root; else names the command that does.
# With `required` as second argument a package that is not there fails the build; otherwise what
# needs it says so itself later on.
set -euo pipefail
package="${1:?usage: install_system_package.sh PACKAGE [required]}"
need="${2:-optional}"

install() {
  export DEBIAN_FRONTEND=noninteractive
  apt-get install -y -q --no-install-recommends "$package" ||
    { apt-get update -q && apt-get install -y -q --no-install-recommends "$package"; }
}

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  if install >&2; then exit 0; fi
  echo "The system package $package could not be installed." >&2
elif command -v apt-get >/dev/null; then
  echo "The system package $package is missing. Install it with:" >&2
  echo "    sudo apt-get install -y $package" >&2
else
  echo "$package is missing: install it with this system's package manager." >&2
fi
[ "$need" = required ] && exit 1
exit 0
