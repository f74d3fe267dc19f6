"""The ways in which a mount may read, as parameters of a test."""

from __future__ import annotations

import inspect
import os
from collections.abc import Sequence
from typing import Any

import pytest

from fluidpy.cli.mount import mount
from fluidpy.fuse.mounting import mount_dataset

CAN_UPGRADE = "upgrade" in inspect.signature(mount).parameters
_CHOICE = "read_mode" in inspect.signature(mount_dataset).parameters
READ_MODES = ("no-open", "passthrough", "plain") if _CHOICE else ("plain",)


def every_mode(
    *, quick: str = "", soak: bool = False, modes: Sequence[str] = READ_MODES
) -> pytest.MarkDecorator:
    """Runs a test in each mode; all but the mode `quick` count as slow, or all as `soak`.

    `modes` are fewer ones, where the soak runs the same at length in all of them.
    """
    mark = pytest.mark.soak if soak else pytest.mark.slow
    return pytest.mark.parametrize(
        "read_mode",
        [pytest.param(mode, marks=() if mode == quick else mark) for mode in modes],
    )


def options_of(read_mode: str) -> dict[str, Any]:
    """Keywords of `mount_dataset`; skips what this user cannot have."""
    if read_mode == "passthrough" and os.geteuid() != 0:
        pytest.skip("passthrough needs CAP_SYS_ADMIN")
    return {"read_mode": read_mode} if _CHOICE else {}
