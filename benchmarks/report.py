"""Tables for people, JSON for keeping, a plot beside the table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.pairs import Comparison, Figure, Outcome

RESULTS = Path(__file__).parent / "results"


_VERDICTS = {None: "", True: "yes", False: "NO"}


def table(outcome: Outcome) -> str:
    """A table that fits a terminal: limit, ours, ratio with quartiles, what was promised."""
    rows: list[tuple[str, ...]] = [
        ("figure", "limit", "ours", "ratio", "quartiles", "promised", "")
    ]
    rows += [_comparison_row(item) for item in outcome.comparisons]
    rows += [_figure_row(item) for item in outcome.figures]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _comparison_row(item: Comparison) -> tuple[str, ...]:
    return (
        item.name,
        f"{item.limit.median:,.1f}",
        f"{item.ours.median:,.1f} {item.unit}",
        f"{item.ratio:.2f}",
        f"{item.ratio_lower:.2f}-{item.ratio_upper:.2f}",
        "" if item.at_least is None else f"≥ {item.at_least:g}",
        _VERDICTS[item.reached],
    )


def _figure_row(item: Figure) -> tuple[str, ...]:
    bounds = [f"≤ {item.at_most:,g}"] if item.at_most is not None else []
    bounds += [f"≥ {item.at_least:,g}"] if item.at_least is not None else []
    value = item.value
    several = len(value.samples) > 1
    return (
        item.name,
        "",
        f"{value.median:,.1f} {item.unit}",
        "",
        f"{value.lower:,.1f}-{value.upper:,.1f}" if several else "",
        " ".join(bounds),
        _VERDICTS[item.reached],
    )


def keep(name: str, machine: dict[str, Any], outcome: Outcome) -> Path:
    """Writes the result of one benchmark as `results/NAME.json` and answers its path."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    document = {
        "benchmark": name,
        "machine": machine,
        "comparisons": [item.to_document() for item in outcome.comparisons],
        "figures": [item.to_document() for item in outcome.figures],
        **outcome.facts,
    }
    path.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n")
    return path
