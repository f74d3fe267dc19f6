"""What `doctor` says of runtime plug-ins: those that are known, and those that cannot be read."""

from __future__ import annotations

from fluidpy.cli.findings import Finding, Verdict
from fluidpy.errors import FluidpyError
from fluidpy.runtime.discovery import discover
from fluidpy.settings import Settings
from fluidpy.storage.plugins import installed_plugins, problem_of_packages

_NAME = "plug-ins"


def check_plugins(settings: Settings) -> list[Finding]:
    """One finding a problem; else one that names the plug-ins. Loads none of their code."""
    found = discover(settings)
    cure = "`fluidpy runtime install` it again, or correct FLUIDPY_RUNTIME_PATH"
    wrong = [Finding(_NAME, Verdict.BROKEN, problem, cure) for problem in found.problems]
    try:
        installed_plugins(settings.plugin_folders)
    except FluidpyError as error:
        wrong.append(Finding(_NAME, Verdict.BROKEN, error.message, error.cure))
    if problem := problem_of_packages():
        wrong.append(Finding(_NAME, Verdict.BROKEN, problem, "Mend or remove that package"))
    names = ", ".join(sorted(found.plugins)) or "none"
    return wrong or [Finding(_NAME, Verdict.OK, f"runtime plug-ins: {names}")]
