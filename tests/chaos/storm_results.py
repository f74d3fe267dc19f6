"""What a storm did and how long its readers waited, kept where `STORM_RESULTS` says.

`STORM_RESULTS=benchmarks/results make soak` writes `storm-MODE.json` there, a read mode a file,
with the storms by name; without it nothing is written.
"""

from __future__ import annotations

import json
import os
import statistics
from pathlib import Path
from typing import Any

from benchmarks import machine
from tests.chaos.bed import Load

VARIABLE = "STORM_RESULTS"


def result_of(load: Load, events: int) -> dict[str, Any]:
    """Plain values of a load that has ended and was checked; times are in seconds."""
    absences = load.restart_milliseconds
    return {
        "seed": load.seed,
        "kills_or_upgrades": events,
        "source_and_cache": dict(sorted(load.done.items())),
        "readers": [{"kind": r["kind"], **r["counts"]} for r in load.reports],
        "stall": load.stall,
        "worst": {
            operation: {"seconds": seconds, "of": name}
            for operation, (seconds, name) in sorted(load.worst.items())
        },
        "without_a_server": {
            "times": len(absences),
            "median": statistics.median(absences) / 1000 if absences else 0.0,
            "most": max(absences, default=0.0) / 1000,
        },
    }


def keep(name: str, read_mode: str, result: dict[str, Any]) -> Path | None:
    """Writes a storm's result beside the others of its read mode; where, if anywhere."""
    directory = os.environ.get(VARIABLE)
    if not directory:
        return None
    path = Path(directory) / f"storm-{read_mode}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    document = json.loads(path.read_text()) if path.exists() else {}
    document["benchmark"] = "storm"
    document["read_mode"] = read_mode
    document.setdefault("storms", {})[name] = {**result, "machine": machine.facts(path.parent)}
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n")
    draft.replace(path)
    return path
