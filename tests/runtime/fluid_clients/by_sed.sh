#!/bin/sh
# The way of most addons: the one line of config.json, its first mount, by sed.
set -e
config=/etc/fluid/config/config.json
get() { sed -n "1s/.*\"$1\":\"\([^\"]*\)\".*/\1/p" "$config"; }
target=$(get targetPath)
mkdir -p "$target"
trap 'umount "$target"' TERM
exec sshfs -f -F/dev/null -oIdentityFile="$(get identity)" -oUserKnownHostsFile="$(get known_hosts)" \
  -oBatchMode=yes -oport="$(get port)" "$(get mountPoint)" "$target"
