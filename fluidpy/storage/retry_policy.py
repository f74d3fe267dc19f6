"""When a failed request is worth another try, and how long to wait before it.

Kinds that a retry may cure are SourceUnavailableError (refused, reset, 429, 5xx, a short body) and
SourceTimeoutError. Wrong credentials, what is not there and what has changed are final.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import TypeVar

from fluidpy.errors import SourceError, SourceTimeoutError, SourceUnavailableError

T = TypeVar("T")

RETRIED = (SourceUnavailableError, SourceTimeoutError)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Exponential back-off with jitter under one deadline.

    Six attempts wait 0.1, 0.2, 0.4, 0.8 and 1.6 s at most between them: over a restart of a
    server's front end, and a wrong endpoint is reported within about 3 s.
    """

    label: str = ""
    """The mount, for messages."""
    retries: int = 5
    """Attempts after the first."""
    deadline_seconds: float = 60.0
    """For all attempts together, waits included."""
    first_delay_seconds: float = 0.1
    longest_delay_seconds: float = 5.0
    fraction: Callable[[], float] = field(default=random.random, repr=False)
    """A number in [0, 1): the jitter."""

    def delay(self, attempt: int) -> float:
        """Seconds to wait after failed attempt `attempt` (from 0): half fixed, half random."""
        longest: float = min(self.longest_delay_seconds, self.first_delay_seconds * 2.0**attempt)
        return longest * (0.5 + 0.5 * self.fraction())

    def without_retries(self) -> RetryPolicy:
        """The same deadline, one attempt."""
        return replace(self, retries=0)

    async def run(self, call: Callable[[], Awaitable[T]], doing: str) -> T:
        """The result of `call`, tried again as the policy says.

        Raises the last error when it is final, else SourceUnavailableError or SourceTimeoutError
        that names the mount, what was being done (`doing`, such as `reading a/b`) and the cause.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + self.deadline_seconds
        last: SourceError | None = None
        attempt = 0
        while True:
            try:
                async with asyncio.timeout_at(end):
                    return await call()
            except RETRIED as error:
                last = error
            except TimeoutError as error:
                raise self._late(doing, last) from (last or error)
            if attempt >= self.retries:
                raise self._gave_up(doing, last, attempt + 1) from last
            pause = self.delay(attempt)
            if loop.time() + pause >= end:
                raise self._late(doing, last) from last
            await asyncio.sleep(pause)
            attempt += 1

    def _late(self, doing: str, last: SourceError | None) -> SourceTimeoutError:
        cause = f": {last.message}" if last else ": the source did not answer"
        return SourceTimeoutError(
            f"mount {self.label}: {doing} took longer than {self.deadline_seconds:g} s{cause}",
            cure=(last.cure if last else "")
            or "Check the source and the network, or set deadline_seconds higher.",
        )

    def _gave_up(self, doing: str, last: SourceError, attempts: int) -> SourceError:
        times = "once" if attempts == 1 else f"{attempts} times"
        kind = SourceTimeoutError if isinstance(last, SourceTimeoutError) else None
        return (kind or SourceUnavailableError)(
            f"mount {self.label}: {doing} failed {times}: {last.message}",
            cure=last.cure or "Check the source and the network, then try again.",
        )
