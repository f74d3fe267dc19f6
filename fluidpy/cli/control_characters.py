"""Keeps names of files from steering a terminal: control characters are shown, not sent."""

from __future__ import annotations

import re

# C0 without tab and line feed, DEL, and C1 (ISO 6429).
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def without_controls(text: str) -> str:
    """The text with control characters, tab and line feed apart, as `\\x1b` shows them."""
    return _CONTROLS.sub(lambda found: f"\\x{ord(found[0]):02x}", text)
