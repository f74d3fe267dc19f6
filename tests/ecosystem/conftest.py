from __future__ import annotations

from tests.filesystem.conftest import own_demo

__all__ = ["own_demo"]
