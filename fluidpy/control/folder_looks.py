"""Whether paths are folders, asked without waiting: what is on a dead server never answers."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

FIRST_SECONDS: Final = 0.1
"""How long the first look is waited for; a disk answers sooner by far."""


class FolderLooks:
    """Each path is looked at by a thread of its own, one at a time. For one thread."""

    def __init__(self, is_folder: Callable[[Path], bool] = Path.is_dir) -> None:
        """`is_folder` is what blocks; it may raise OSError."""
        self._is_folder = is_folder
        self._looks: dict[str, _Look] = {}

    def is_folder(self, path: str) -> bool | None:
        """Whether it is one; None while nothing answers, then it is to be asked again.

        Raises OSError.
        """
        look = self._looks.get(path)
        if look is None:
            look = self._looks[path] = _Look(self._is_folder, Path(path))
            look.wait(FIRST_SECONDS)
        if not look.ended:
            return None
        del self._looks[path]
        if look.error is not None:
            raise look.error
        return look.found


class _Look:
    def __init__(self, is_folder: Callable[[Path], bool], path: Path) -> None:
        self.found = False
        self.error: OSError | None = None
        self._is_folder, self._path = is_folder, path
        self._ended = threading.Event()
        # Not of a pool: a thread that the kernel holds would keep its process from ending.
        threading.Thread(target=self._work, name="folder-look", daemon=True).start()

    @property
    def ended(self) -> bool:
        return self._ended.is_set()

    def wait(self, seconds: float) -> None:
        self._ended.wait(seconds)

    def _work(self) -> None:
        try:
            self.found = self._is_folder(self._path)
        except OSError as error:
            self.error = error
        finally:
            self._ended.set()
