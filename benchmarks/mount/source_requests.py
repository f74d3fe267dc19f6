"""How many requests the source has answered: what shows that a cache is warm."""

from __future__ import annotations

import re
import urllib.request
from collections.abc import Callable

_REQUESTS = re.compile(r"^SeaweedFS_s3_request_total\{.*\} (\S+)$", re.MULTILINE)
_SECONDS = 5.0


def parse_requests(text: str) -> int:
    """Sum of SeaweedFS's counter of S3 requests, over all buckets, kinds and answers."""
    return int(sum(float(value) for value in _REQUESTS.findall(text)))


def counter(port: int) -> Callable[[], int]:
    """Asks the metrics of the SeaweedFS whose `-metricsPort` that is."""

    def count() -> int:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=_SECONDS) as answer:
            return parse_requests(answer.read().decode())

    return count
