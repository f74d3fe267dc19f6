"""What `doctor` finds: one finding a check, and how findings are printed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum

from fluidpy.cli.options import OutputFormat
from fluidpy.cli.printers import print_json, print_text, print_yaml, styled


class Verdict(StrEnum):
    """How a check ended."""

    OK = "ok"
    NOTE = "note"
    BROKEN = "broken"


_STYLES = {Verdict.OK: "green", Verdict.NOTE: "yellow", Verdict.BROKEN: "red"}


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found; `cure` says what to do, empty where nothing is wrong."""

    check: str
    verdict: Verdict
    message: str
    cure: str = ""


def print_findings(findings: Sequence[Finding], output: OutputFormat) -> None:
    """Prints findings as lines for people, or as a list for programs."""
    if output is OutputFormat.JSON:
        print_json([asdict(finding) for finding in findings])
    elif output is OutputFormat.YAML:
        print_yaml([asdict(finding) for finding in findings])
    else:
        for line in _lines(findings):
            print_text(line)


def _lines(findings: Sequence[Finding]) -> list[str]:
    width = max(len(finding.check) for finding in findings)
    lines = []
    for finding in findings:
        word = styled(finding.verdict.ljust(6), _STYLES[finding.verdict])
        lines.append(f"{word}  {finding.check.ljust(width)}  {finding.message}")
        if finding.cure:
            lines.append(f"{' ' * 8}{' ' * width}  cure: {finding.cure}")
    return lines
