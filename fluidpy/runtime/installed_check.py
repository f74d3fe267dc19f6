"""Whether a plug-in that is known here can also be used here: its class, or its program."""

from __future__ import annotations

import os
import shutil

from fluidpy.errors import FluidpyError
from fluidpy.runtime.discovery import Plugin, driver_of, load_class
from fluidpy.runtime.driver import EngineDriver
from fluidpy.runtime.mount_driver import program_of


def problem_of(plugin: Plugin) -> str:
    """Why it cannot be used on this machine; empty when it can."""
    manifest = plugin.manifest
    if manifest.mount is not None:
        program = program_of(plugin.directory, manifest.mount.command[0])
        if "{" not in program and shutil.which(program) is None:
            return f"the program {program} is not installed"
        return _missing_mounter(manifest.mount.filesystem_type)
    try:
        if manifest.storage is not None:
            load_class(plugin, manifest.storage.class_)
            return ""
        driver = driver_of(plugin)
        return driver.missing() if isinstance(driver, EngineDriver) else ""
    except FluidpyError as error:
        return error.message


def _missing_mounter(filesystem_type: str) -> str:
    """Root mounts by itself; all others by a program of FUSE's, of either version."""
    if os.geteuid() == 0 or not filesystem_type.startswith("fuse"):
        return ""
    if shutil.which("fusermount3") or shutil.which("fusermount"):
        return ""
    return "the program fusermount3 is not installed (apt-get install fuse3)"
