"""A table that fits a terminal: one block a scenario, one line a system."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.mount.rounds import Outcome, Row

_HEAD = ("", "speed", "÷ plain", "quartiles", "promised", "÷ peer", "CPU", "added µs", "")
_CAUSE_LETTERS = 70
_SOME_DISK_BYTES = 10 * 2**20
"""Over all rounds; the odd block of a file system's own is not worth a word."""


def notes(row: Row, name: str) -> str:
    """What a reader of the line should know besides its figures; `name` is the scenario's."""
    said = []
    if row.missed:
        said.append("NOT REACHED: " + " and ".join(verdict.words for verdict in row.missed))
    if any(verdict.reached is None for verdict in row.verdicts):
        said.append("no peer to judge by")
    if row.failed_peers:
        said.append(f"peers that failed: {', '.join(row.failed_peers)}")
    if row.unfinished:
        said.append(f"stopped at its limit {row.unfinished} ×")
    if row.source_requests:
        said.append(f"{row.source_requests:,} requests to the source")
    if "warm" in name and row.disk_bytes > _SOME_DISK_BYTES:
        said.append(f"{row.disk_bytes // 2**20:,} MiB from disk")
    if row.failure:
        said.append(f"failed: {_cause(row.failure)}")
    return ", ".join(said)


def _cause(failure: str) -> str:
    """The end of the first line: a message begins with the command that failed."""
    first = failure.splitlines()[0]
    return first if len(first) <= _CAUSE_LETTERS else "…" + first[-_CAUSE_LETTERS:]


def _line(row: Row, name: str) -> tuple[str, ...]:
    found = row.comparison
    if found is None:
        return (row.system, "-", "-", "", "", "", "", "", notes(row, name))
    added = row.added_microseconds
    is_plain = row.system == "plain"
    return (
        row.system,
        f"{found.ours.median:,.0f}",
        f"{found.ratio:.2f}",
        "" if is_plain else f"{found.ratio_lower:.2f}-{found.ratio_upper:.2f}",
        ", ".join(verdict.short for verdict in row.verdicts),
        "" if row.best_peer is None else f"{row.best_peer.ratio:.2f}",
        "" if row.cpu_ratio is None else f"{row.cpu_ratio:.2f}",
        "" if added is None or is_plain or "file" not in found.unit else f"{added.median:.0f}",
        notes(row, name),
    )


def table(outcomes: Sequence[Outcome]) -> str:
    """All scenarios."""
    blocks = [[_line(row, outcome.name) for row in outcome.rows] for outcome in outcomes]
    everything = [_HEAD, *(line for block in blocks for line in block)]
    widths = [max(len(line[column]) for line in everything) for column in range(len(_HEAD))]

    def text(line: tuple[str, ...]) -> str:
        first, *numbers, last = line
        cells = [cell.rjust(width) for cell, width in zip(numbers, widths[1:-1], strict=True)]
        return "  ".join([first.ljust(widths[0]), *cells, last]).rstrip()

    parts = []
    for outcome, block in zip(outcomes, blocks, strict=True):
        head = text((outcome.unit, *_HEAD[1:]))
        parts.append("\n".join([outcome.title, head, *(text(line) for line in block)]))
    return "\n\n".join(parts)
