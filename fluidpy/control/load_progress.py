"""How far a load is, out of what each worker reports: files, bytes, rate, time left. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Self

from fluidpy.api.operations import OperationFailure, OperationProgress

RATE_SECONDS: Final = 10.0
"""The rate is that of this many seconds: long enough to be steady, short enough to follow."""

FAILURES_KEPT: Final = 20
"""Failures named in the status; all are counted."""

LONGEST_FAILURE: Final = 512
"""Characters of a failure's message that are kept."""


@dataclass(frozen=True, slots=True)
class MemberCounts:
    """What one worker has found and done of its share; the names are those of its answers."""

    files: int = 0
    bytes: int = 0
    done_files: int = 0
    done_bytes: int = 0
    failed: int = 0
    failures: tuple[tuple[str, str], ...] = ()

    @classmethod
    def from_answer(cls, answer: Mapping[str, Any]) -> Self:
        """The counts in an answer of `load`, on the way or at the end."""
        failures = answer.get("failures", ())[:FAILURES_KEPT]
        return cls(
            int(answer.get("files", 0)),
            int(answer.get("bytes", 0)),
            int(answer.get("done_files", 0)),
            int(answer.get("done_bytes", 0)),
            int(answer.get("failed", 0)),
            tuple((str(path), str(message)) for path, message in failures),
        )

    def plus(self, other: MemberCounts) -> MemberCounts:
        """Both together."""
        return MemberCounts(
            self.files + other.files,
            self.bytes + other.bytes,
            self.done_files + other.done_files,
            self.done_bytes + other.done_bytes,
            self.failed + other.failed,
            (*self.failures, *other.failures)[:FAILURES_KEPT],
        )


NOTHING: Final = MemberCounts()
"""Before a worker has reported anything."""


class Sample(NamedTuple):
    """How many bytes were done at a moment (seconds of any steady clock)."""

    seconds: float
    bytes: int


def with_sample(samples: Sequence[Sample], new: Sample) -> tuple[Sample, ...]:
    """The samples with another one, without those the rate no longer needs.

    A worker that died starts its share anew: when bytes go back, so does the rate's beginning.
    """
    if samples and new.bytes < samples[-1].bytes:
        return (new,)
    kept = [one for one in samples if new.seconds - one.seconds <= RATE_SECONDS]
    older = samples[len(samples) - len(kept) - 1 : len(samples) - len(kept)]
    return (*older, *kept, new)


def bytes_per_second(samples: Sequence[Sample]) -> int:
    """The rate over the samples; 0 as long as there are too few."""
    if len(samples) < 2 or samples[-1].seconds <= samples[0].seconds:
        return 0
    done = samples[-1].bytes - samples[0].bytes
    return max(0, int(done / (samples[-1].seconds - samples[0].seconds)))


def total(counts: Iterable[MemberCounts]) -> MemberCounts:
    """The sum over workers."""
    result = NOTHING
    for one in counts:
        result = result.plus(one)
    return result


def progress(counts: MemberCounts, samples: Sequence[Sample]) -> OperationProgress:
    """The progress as the status of an operation has it."""
    rate = bytes_per_second(samples)
    left = max(0, counts.bytes - counts.done_bytes)
    return OperationProgress(
        files=counts.done_files,
        files_total=counts.files,
        bytes=counts.done_bytes,
        bytes_total=counts.bytes,
        bytes_per_second=rate,
        eta_seconds=-(-left // rate) if rate and left else (None if left else 0),
        failed=counts.failed,
        failures=[
            OperationFailure(path=path, message=message[:LONGEST_FAILURE])
            for path, message in counts.failures
        ],
    )
