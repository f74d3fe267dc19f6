#!/bin/bash
# The way of Fluid's NFS sample: Python makes a script of config.json, which is then run.
set -e
script=$(mktemp)
python3 - >"$script" <<'PYTHON'
import json
with open("/etc/fluid/config/config.json") as f:
    config = json.loads(f.readline())
mount = config["mounts"][0]
options = mount["options"]
print("set -e")
print("mkdir -p %s" % config["targetPath"])
print("exec sshfs -f -F/dev/null -oBatchMode=yes -oport=%s -oIdentityFile=%s -oUserKnownHostsFile=%s %s %s"
      % (options["port"], options["identity"], options["known_hosts"], mount["mountPoint"], config["targetPath"]))
PYTHON
bash "$script" &
client=$!
trap 'umount "$MOUNT_POINT"; wait $client' TERM
wait $client
rm -f "$script"
