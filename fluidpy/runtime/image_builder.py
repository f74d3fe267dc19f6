"""Running buildah, podman or docker: with a deadline, and failures told with their cure."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Final

from fluidpy.errors import RuntimePluginError

END_SECONDS: Final = 20.0
"""How long a builder that is told to end may take to remove what it has begun."""
LAST_WORDS: Final = 3
"""So many lines of a failed run are told."""

_CURES: Final = (
    (
        "no space left on device|disk quota exceeded",
        "Free room on the disk of the builder's images, or remove some of them: "
        "`{tool} images`, `{tool} rmi IMAGE`.",
    ),
    (
        # Before the network: a registry that is reached tells it.
        "manifest unknown|requested access to the resource is denied|unauthorized",
        "Correct the image's name (--base), or log in to its registry: `{tool} login`.",
    ),
    (
        "could not resolve|temporary failure (in name resolution|resolving)|no such host|"
        "network is unreachable|connection (refused|timed out)|i/o timeout|server misbehaving",
        "Without network, name a base that is here (--base) and put what the Dockerfile installs "
        "into packages/ of the plug-in's folder: *.deb or *.whl, with all that they need.",
    ),
    (
        r"(runc|crun)\S* (was )?(not found|executable file not found)|"
        r"executable file .*(runc|crun)|OCI (runtime|permission)|"
        "exec: no command|cgroups in hybrid mode",
        "Install a container runtime that works here (`apt-get install runc`), or build without: "
        "BUILDAH_ISOLATION=chroot.",
    ),
    (
        "newuidmap|newgidmap|subuid|subgid",
        "Give this user ids to build with: `apt-get install uidmap`, and a line for him in "
        "/etc/subuid and /etc/subgid.",
    ),
)
_NOISE: Final = re.compile(r"subprocess exited with status|^(-->|STEP) |^\s*$|^\[\d+/\d+\] STEP")


def answer(command: Sequence[str], seconds: float, what: str, allowed: Sequence[int] = (0,)) -> str:
    """What a run prints to stdout. Raises RuntimePluginError, as `follow`."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
            timeout=seconds, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise _late(command, seconds, what) from error
    if done.returncode not in allowed:
        raise _failure(command, what, (done.stderr or done.stdout).splitlines())
    return done.stdout


def follow(command: Sequence[str], seconds: float, what: str) -> Iterator[str]:
    """Each line of a run as it comes. However it is left, the run has ended.

    Raises RuntimePluginError when it fails, with its last words, or takes longer than `seconds`.
    """
    said: deque[str] = deque(maxlen=200)
    late = threading.Event()
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        process_group=0,
        umask=0o022,  # what steps make is for the image's user, who is another one
        # `RUN --mount` is BuildKit's; Debian 12's docker has it and does not use it unasked.
        env={"DOCKER_BUILDKIT": "1", **os.environ},
    ) as process:
        timer = threading.Timer(seconds, _end_late, (process, late))
        timer.start()
        try:
            assert process.stdout is not None
            for line in process.stdout:
                said.append(line.rstrip())
                yield said[-1]
            process.wait()
        finally:
            timer.cancel()
            _end(process)
    if late.is_set():
        raise _late(command, seconds, what)
    if process.returncode:
        raise _failure(command, what, said)


def _end_late(process: subprocess.Popen[str], late: threading.Event) -> None:
    late.set()
    _end(process)


def _end(process: subprocess.Popen[str]) -> None:
    """It and what it has started, which have the time to remove their containers."""
    if process.poll() is not None:
        return
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)


def _late(command: Sequence[str], seconds: float, what: str) -> RuntimePluginError:
    return RuntimePluginError(
        f"{what} did not end within {seconds:g} s", cure=f"Run it by hand: {shlex.join(command)}"
    )


def _failure(
    command: Sequence[str], what: str, said: Sequence[str] | deque[str]
) -> RuntimePluginError:
    return RuntimePluginError(f"{what} failed: {last_words(said)}", cure=cure_of(said, command))


def last_words(said: Sequence[str] | deque[str]) -> str:
    """The last lines that tell something, each once. Pure."""
    telling = dict.fromkeys(line.strip() for line in said if not _NOISE.search(line))
    return " / ".join(list(telling)[-LAST_WORDS:]) or "it said nothing"


def cure_of(said: Sequence[str] | deque[str], command: Sequence[str]) -> str:
    """What to do about a failed run, by what it said last. Pure."""
    text = "\n".join(list(said)[-40:])
    for pattern, cure in _CURES:
        if re.search(pattern, text, re.IGNORECASE):
            return cure.format(tool=command[0])
    return f"Run it by hand: {shlex.join(command)}"
