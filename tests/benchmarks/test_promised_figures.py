"""Whatever was promised counts for the verdict, whether it is a ratio or a value of its own."""

from __future__ import annotations

import contextlib
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks import __main__ as command
from benchmarks.pairs import Figure, Outcome, compare, spread
from benchmarks.report import table

SLOW = compare("reads", "MiB/s", [10, 10, 10], [5, 5, 5], at_least=0.9)
FAST = compare("reads", "MiB/s", [10, 10, 10], [9.5, 9.5, 9.5], at_least=0.9)
HEAVY = Figure("disk a file", "B", spread([300]), at_most=250)
LIGHT = Figure("disk a file", "B", spread([100]), at_most=250)
LAZY = Figure("find", "entries/s", spread([40_000, 45_000, 60_000]), at_least=50_000)
FREE = Figure("found", "files", spread([3]))


@pytest.mark.parametrize(
    ("outcome", "missed"),
    [
        (Outcome([FAST], [LIGHT, FREE]), False),
        (Outcome([SLOW], [LIGHT]), True),
        (Outcome([FAST], [HEAVY]), True),
        (Outcome([], [LAZY]), True),
        (Outcome(), False),
    ],
)
def test_a_missed_bound_is_the_exit_status(
    outcome: Outcome,
    missed: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    @contextlib.contextmanager
    def nothing_started(*_: object) -> Iterator[SimpleNamespace]:
        yield SimpleNamespace(directory=Path("/tmp"))

    scenario = types.ModuleType("a_scenario")
    scenario.run = lambda _: outcome  # type: ignore[attr-defined]  # as scenarios have it
    monkeypatch.setitem(sys.modules, "a_scenario", scenario)
    monkeypatch.setitem(command.SCENARIOS, "warm-url", "a_scenario")
    for name in ("bench", "steady_memory"):
        monkeypatch.setattr(command, name, nothing_started)
    monkeypatch.setattr(command, "facts", lambda _: {})
    monkeypatch.setattr(sys, "argv", ["benchmarks", "warm-url", "--smoke"])
    assert command.main() == missed
    assert ("NO" in capsys.readouterr().out.split()) == missed


def test_each_bound_has_its_verdict_in_the_table() -> None:
    rows = table(Outcome([SLOW], [LIGHT, LAZY, FREE])).splitlines()[1:]
    assert [row.split()[-1] for row in rows] == ["NO", "yes", "NO", "files"]
    assert "≤ 250" in rows[1]
    assert "≥ 50,000" in rows[2]
    assert "42,500.0-52,500.0" in rows[2]
