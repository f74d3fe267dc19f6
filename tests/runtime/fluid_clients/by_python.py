#!/usr/bin/env python3
"""A client whose entrypoint is Python: options from config.json and the environment."""

import json
import os
from pathlib import Path

config = json.loads(Path("/etc/fluid/config/config.json").read_text())
mount = config["mounts"][0]
options = dict(mount["options"], BatchMode="yes")
options["IdentityFile"] = options.pop("identity")
options["UserKnownHostsFile"] = options.pop("known_hosts")
assert Path(options["IdentityFile"]).read_text().startswith("-----BEGIN")
target = os.environ["MOUNT_POINT"]
assert target == config["targetPath"]
assert config["accessModes"] == ["ReadOnlyMany"]
assert os.environ["FLUID_RUNTIME_TYPE"] == "thin"
Path(target).mkdir(parents=True, exist_ok=True)
words = [f"-o{name}={value}" for name, value in options.items()]
words += ["-o" + os.environ["MOUNT_OPTIONS"], mount["mountPoint"], target]
os.execvp("sshfs", ["sshfs", "-f", "-F/dev/null", *words])
