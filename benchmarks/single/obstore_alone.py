"""The limit: what obstore alone does with the same ranges, at its best concurrency."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import obstore
from obstore.store import S3Store

CONCURRENCIES = (2, 4, 8, 16, 32)
"""Tried before measuring; the best one is used."""


async def _ranges(store: S3Store, key: str, size: int, part: int, concurrency: int) -> float:
    slots = asyncio.Semaphore(concurrency)
    etag = (await obstore.head_async(store, key))["e_tag"]

    async def fetch(start: int) -> None:
        async with slots:
            end = min(start + part, size)
            answer = await obstore.get_async(
                store, key, options={"range": (start, end), "if_match": etag}
            )
            if len(await answer.bytes_async()) != end - start:
                raise RuntimeError("short range")

    begin = time.perf_counter()
    await asyncio.gather(*(fetch(start) for start in range(0, size, part)))
    return size / (time.perf_counter() - begin)


def read_ranges(store: S3Store, key: str, size: int, part: int, concurrency: int) -> float:
    """Bytes a second of one object read in ranges of `part` bytes."""
    return asyncio.run(_ranges(store, key, size, part, concurrency))


async def _objects(store: S3Store, keys: Sequence[str], concurrency: int) -> float:
    pending = iter(keys)

    async def fetch_many() -> None:
        for key in pending:
            await (await obstore.get_async(store, key)).bytes_async()

    begin = time.perf_counter()
    await asyncio.gather(*(fetch_many() for _ in range(concurrency)))
    return len(keys) / (time.perf_counter() - begin)


def get_objects(store: S3Store, keys: Sequence[str], concurrency: int) -> float:
    """Objects a second of whole objects."""
    return asyncio.run(_objects(store, keys, concurrency))


def list_objects(store: S3Store) -> float:
    """Keys a second of a whole listing."""
    begin, count = time.perf_counter(), 0
    for batch in obstore.list(store, chunk_size=1000, return_arrow=False):
        count += len(batch)
    return count / (time.perf_counter() - begin)
