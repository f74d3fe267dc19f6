#!/bin/sh
# An SSH server on loopback for `fluidpy runtime test`: serve.sh PORT DIRECTORY. Its keys lie in this
# folder and open nothing else. It prints a line once it answers.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
umask 077
cp "$here/host" "$2/../host-key"
[ "$(id -u)" != 0 ] || mkdir -p /run/sshd
(
  # Not longer than the server lives, also while nobody has waited for its end.
  while grep -q ') [^ZX] ' "/proc/$$/stat" 2>/dev/null; do
    if ssh-keyscan -t ed25519 -p "$1" 127.0.0.1 2>/dev/null | grep -q ssh-; then
      echo ready
      break
    fi
    sleep 0.1
  done
) &
exec /usr/sbin/sshd -D -e -f /dev/null -p "$1" -h "$2/../host-key" -o ListenAddress=127.0.0.1 \
  -o UsePAM=no -o PidFile=none -o StrictModes=no -o AuthorizedKeysFile="$here/user.pub" \
  -o PermitRootLogin=yes -o Subsystem='sftp internal-sftp' -o MaxStartups=100 2>/dev/null
