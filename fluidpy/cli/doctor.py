"""`doctor`: runs every check, prints what is wrong here and its cure."""

from __future__ import annotations

from typing import Annotated

import typer

from fluidpy.cli.findings import Finding, Verdict, print_findings
from fluidpy.cli.options import OutputFormat, OutputOption
from fluidpy.errors import UsageError


def doctor(
    fix: Annotated[bool, typer.Option("--fix", help="Unmount what is dead.")] = False,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Say what is wrong on this machine and what cures it.

    Exit code 1 if something is broken. Example: fluidpy doctor -o json
    """
    findings = examine(fix=fix)
    print_findings(findings, output)
    if any(finding.verdict is Verdict.BROKEN for finding in findings):
        raise typer.Exit(1)


def examine(*, fix: bool = False) -> list[Finding]:
    """All findings on this machine, in the order a person would look; `fix` clears dead mounts."""
    from fluidpy.cli import doctor_cache, doctor_mounts, doctor_plugins, doctor_system
    from fluidpy.fuse.mount_record import read_records
    from fluidpy.fuse.mount_table import read_mounts
    from fluidpy.settings import load_settings

    findings = doctor_system.check_system()
    try:
        settings = load_settings()
    except UsageError as error:
        findings.append(Finding("settings", Verdict.BROKEN, error.message, error.cure))
        return findings
    findings += doctor_cache.check_cache_directory(settings.cache_dir)
    findings.append(doctor_cache.check_runtime_directory(settings))
    findings.append(doctor_mounts.check_worker(settings))
    findings += doctor_plugins.check_plugins(settings)
    findings += doctor_mounts.check_mounts(read_mounts(), read_records(settings), clear=fix)
    return findings
