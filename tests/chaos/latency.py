"""How long operations took: counts by power of two, the worst, and stalls of the machine.

A *stall* is how much longer than asked a thread of the same process slept: on a machine that is
busy otherwise, that much of a long operation is nobody's fault here.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

PULSE_SECONDS = 0.005


class Latencies:
    """Of one process, for any number of threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[str, dict[int, int]] = {}
        self._worst: dict[str, tuple[float, str]] = {}

    @contextmanager
    def measure(self, operation: str, name: str) -> Iterator[None]:
        """Counts what is done in the block, failed or not."""
        begin = time.monotonic()
        try:
            yield
        finally:
            self.add(operation, name, time.monotonic() - begin)

    def add(self, operation: str, name: str, seconds: float) -> None:
        bucket = max(0, int(seconds * 1e6)).bit_length()
        with self._lock:
            counts = self._counts.setdefault(operation, {})
            counts[bucket] = counts.get(bucket, 0) + 1
            if seconds > self._worst.get(operation, (0.0, ""))[0]:
                self._worst[operation] = (seconds, name)

    def report(self) -> dict[str, Any]:
        """Plain values; `buckets` are counts by the bit length of the microseconds."""
        with self._lock:
            return {
                operation: {
                    "buckets": {str(bucket): count for bucket, count in sorted(counts.items())},
                    "worst": self._worst[operation][0],
                    "worst_name": self._worst[operation][1],
                }
                for operation, counts in self._counts.items()
            }


class Pulse:
    """A thread that sleeps and notes its longest oversleep; a context manager."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def _beat(self) -> None:
        while not self._ended.is_set():
            begin = time.monotonic()
            time.sleep(PULSE_SECONDS)
            self.longest = max(self.longest, time.monotonic() - begin - PULSE_SECONDS)

    def __enter__(self) -> Pulse:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()


def worst(reports: Iterable[dict[str, Any]]) -> dict[str, tuple[float, str]]:
    """The longest of each operation in all reports: seconds, and of what."""
    found: dict[str, tuple[float, str]] = {}
    for report in reports:
        for operation, values in report.items():
            one = (values["worst"], values["worst_name"])
            found[operation] = max(found.get(operation, one), one)
    return found


def describe(reports: Iterable[dict[str, Any]]) -> str:
    """One line an operation: how many, median, 99 %, 99.9 % (at most, by buckets) and the worst."""
    reports = list(reports)
    merged: dict[str, dict[int, int]] = {}
    for report in reports:
        for operation, values in report.items():
            counts = merged.setdefault(operation, {})
            for bucket, count in values["buckets"].items():
                counts[int(bucket)] = counts.get(int(bucket), 0) + count
    longest = worst(reports)
    return "\n".join(
        f"{operation:9} {sum(counts.values()):7}  "
        + "  ".join(f"{share:g}: {_below(counts, share):8.2f} ms" for share in (0.5, 0.99, 0.999))
        + f"  worst: {longest[operation][0] * 1000:.1f} ms ({longest[operation][1]})"
        for operation, counts in sorted(merged.items())
    )


def _below(counts: dict[int, int], share: float) -> float:
    """Milliseconds that this share of the operations stayed under."""
    wanted, seen = share * sum(counts.values()), 0
    for bucket, count in sorted(counts.items()):
        seen += count
        if seen >= wanted:
            return float(2**bucket) / 1000
    return 0.0
