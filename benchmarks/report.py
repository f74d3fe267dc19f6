"""Tables for people, JSON for keeping, a plot beside the table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.pairs import Comparison

RESULTS = Path(__file__).parent / "results"


def table(comparisons: Sequence[Comparison]) -> str:
    """A table that fits a terminal: limit, ours, ratio with quartiles, what was promised."""
    rows = [("figure", "limit", "ours", "ratio", "quartiles", "at least", "")]
    for item in comparisons:
        rows.append(
            (
                item.name,
                f"{item.limit.median:,.1f}",
                f"{item.ours.median:,.1f} {item.unit}",
                f"{item.ratio:.2f}",
                f"{item.ratio_lower:.2f}-{item.ratio_upper:.2f}",
                "" if item.at_least is None else f"{item.at_least:g}",
                {None: "", True: "yes", False: "NO"}[item.reached],
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def keep(
    name: str,
    machine: dict[str, Any],
    comparisons: Sequence[Comparison],
    extra: dict[str, Any] | None = None,
) -> Path:
    """Writes the result of one benchmark as `results/NAME.json` and answers its path."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    document = {
        "benchmark": name,
        "machine": machine,
        "comparisons": [item.to_document() for item in comparisons],
        **(extra or {}),
    }
    path.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n")
    return path
