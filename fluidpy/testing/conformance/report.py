"""What came of each clause, and how it is told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Result(StrEnum):
    """What came of a clause."""

    PASSED = "passed"
    FAILED = "failed"
    WARNED = "warned"
    """Allowed, and perhaps not what the author wants."""
    LEFT_OUT = "left out"
    """Could not be tested; the reason is told."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one clause. Neither `said` nor `cure` holds a secret."""

    clause: str
    """What is promised, such as `a range is exactly the bytes that were asked for`."""
    result: Result
    said: str = ""
    """What was seen instead, in one sentence."""
    cure: str = ""
    """What the author should do."""
    seconds: float = 0.0

    def to_wire(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "clause": self.clause,
            "result": self.result.value,
            "said": self.said,
            "cure": self.cure,
            "seconds": round(self.seconds, 3),
        }

    @classmethod
    def from_wire(cls, wire: dict[str, Any]) -> Outcome:
        """The outcome that `to_wire` described."""
        return cls(**{**wire, "result": Result(wire["result"])})


_MARKS = {
    Result.PASSED: "ok",
    Result.FAILED: "FAILED",
    Result.WARNED: "warning",
    Result.LEFT_OUT: "left out",
}


def passed(outcomes: Sequence[Outcome]) -> bool:
    """Whether something was tested and nothing failed."""
    results = {one.result for one in outcomes}
    return Result.PASSED in results and Result.FAILED not in results


def lines_of(outcome: Outcome) -> list[str]:
    """One clause as lines for people: what was promised, what was seen, what to do."""
    lines = [f"{_MARKS[outcome.result]:<8}  {outcome.clause}"]
    if outcome.said:
        lines.append(f"{'':10}{outcome.said}")
    if outcome.cure and outcome.result is not Result.PASSED:
        lines.append(f"{'':10}cure: {outcome.cure}")
    return lines


def summary(name: str, outcomes: Sequence[Outcome], seconds: float) -> str:
    """The last line."""
    counts = ", ".join(
        f"{count} {result.value}"
        for result in Result
        if (count := sum(one.result is result for one in outcomes))
    )
    verdict = "conforms" if passed(outcomes) else "does not conform"
    return f"{name} {verdict}: {counts or 'nothing was tested'} ({seconds:.0f} s)"
