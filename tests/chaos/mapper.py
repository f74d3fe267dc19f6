"""A process that keeps files mapped: one command a line of its input, one answer a line.

`map NUMBER PATH`, `page NUMBER OFFSET LENGTH` (answers the bytes as hex), `unmap NUMBER`. A page
that cannot be read ends it by SIGBUS, as it would any reader.
"""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


class Mapper:
    """Starts such a process, and a new one after one has ended; its mappings are gone then."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def _ask(self, *words: object) -> str | None:
        """The answer; None when the process ended instead."""
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.chaos.mapper"],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(" ".join(map(str, words)) + "\n")
        process.stdin.flush()
        answer = process.stdout.readline()
        if answer:
            return answer.strip()
        self.close()
        return None

    def map(self, number: int, path: Path) -> bool:
        """Maps a whole file, which is not empty; false when it cannot be opened."""
        return self._ask("map", number, path) == "mapped"

    def page(self, number: int, start: int, length: int) -> bytes | None:
        """Bytes of a mapping; None when there was a SIGBUS, and all mappings are gone."""
        answer = self._ask("page", number, start, length)
        return None if answer is None else bytes.fromhex(answer)

    def unmap(self, number: int) -> None:
        self._ask("unmap", number)

    def close(self) -> None:
        """Ends the process."""
        if self._process is not None:
            process, self._process = self._process, None
            process.communicate(timeout=60)


def main() -> None:
    """Answers until the input ends."""
    maps: dict[str, mmap.mmap] = {}
    for line in sys.stdin:
        command, number, *rest = line.split()
        answer = command
        if command == "map":
            fd = os.open(rest[0], os.O_RDONLY)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            maps[number] = mmap.mmap(fd, 0, prot=mmap.PROT_READ)
            os.close(fd)
            answer = "mapped"
        elif command == "page":
            start, length = map(int, rest)
            answer = maps[number][start : start + length].hex()
        else:
            maps.pop(number).close()
        print(answer, flush=True)


if __name__ == "__main__":
    main()
