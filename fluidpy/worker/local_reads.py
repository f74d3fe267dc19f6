"""`read_locally`: what a client read of complete cache files without asking, told afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fluidpy.client.protocol import Message
from fluidpy.errors import CacheError
from fluidpy.worker.requests import Progress, Reply, integer, malformed

if TYPE_CHECKING:
    from fluidpy.worker.session import Session


def read_locally(session: Session, request: Message, _: Progress) -> Reply:
    """Counts `opens`, `hits` and `bytes`; the objects under `keys` (hex) leave the cache later."""
    dataset = session.dataset(request)
    opens, hits, length = (integer(request, field) for field in ("opens", "hits", "bytes"))
    keys = request.get("keys")
    try:
        digests = [bytes.fromhex(key) for key in keys or ()]
    except (TypeError, ValueError):
        raise malformed("keys", "a list of keys in hex", keys) from None
    counters = dataset.counters
    counters.opens += opens
    counters.hits += hits
    counters.bytes_from_cache += length
    try:
        dataset.store.touch(digests)
    except CacheError as error:
        counters.count_error(type(error).__name__)
    return Reply({})
