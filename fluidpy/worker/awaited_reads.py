"""Waiting for a read that may be slow: with a second one to help, or asking if it may still end.

Generic over what is read; whatever way these return, no task of theirs is under way any more.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import TypeVar

_Result = TypeVar("_Result")


async def ended(*tasks: asyncio.Task[_Result]) -> None:
    """Cancels what is not done, and waits until it is."""
    for task in tasks:
        task.cancel()
    while pending := [task for task in tasks if not task.done()]:
        with contextlib.suppress(asyncio.CancelledError):  # the caller's own goes on as it leaves
            await asyncio.wait(pending)
    for task in tasks:
        if not task.cancelled():
            task.exception()  # nobody else asks for it


async def first_of(
    first: asyncio.Task[_Result],
    begin_second: Callable[[], asyncio.Task[_Result] | None],
    delay: float,
) -> _Result | None:
    """The result of a second read, begun when the first has not ended within `delay` seconds, if
    it comes before that of the first. None: the first has ended, or is all that is waited for.
    """
    done, _ = await asyncio.wait({first}, timeout=delay)
    if done or (second := begin_second()) is None:
        return None
    try:
        await asyncio.wait({first, second}, return_when=asyncio.FIRST_COMPLETED)
        if first.done() and not _failed(first):
            return None
        if not second.done():  # the first one failed
            await asyncio.wait({second})
        return None if _failed(second) else second.result()
    finally:
        await ended(second)


async def alone_while(
    first: asyncio.Task[_Result], every: float, worth_it: Callable[[], Awaitable[bool]]
) -> bool:
    """Waits for a read while that is worth it, asked each `every` seconds; False: it is not."""
    while not (await asyncio.wait({first}, timeout=every))[0]:
        if not await worth_it() and not first.done():
            return False
    return True


def _failed(task: asyncio.Task[_Result]) -> bool:
    return task.cancelled() or task.exception() is not None
