"""Whether a plug-in that is known here can also be used here: its class, or its program."""

from __future__ import annotations

import shutil

from fluidpy.errors import FluidpyError
from fluidpy.runtime.discovery import Plugin, load_class


def problem_of(plugin: Plugin) -> str:
    """Why it cannot be used on this machine; empty when it can."""
    manifest = plugin.manifest
    if manifest.mount is not None:
        program = manifest.mount.command[0]
        if program.startswith("./"):
            program = str(plugin.directory.absolute() / program.removeprefix("./"))
        if "{" not in program and shutil.which(program) is None:
            return f"the program {program} is not installed"
        return ""
    section = manifest.storage or manifest.engine
    try:
        load_class(plugin, section.class_ if section is not None else "")
    except FluidpyError as error:
        return error.message
    return ""
