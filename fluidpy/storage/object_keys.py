"""Which keys of an object store a file system can show, by one stated rule.

A key is any text; a path has parts between slashes, none empty, none `.` or `..`, none longer than
255 bytes (NAME_MAX of Linux). What does not fit is left out and counted, with one of the reasons
below; the rest of the listing is there.
"""

from __future__ import annotations

EMPTY_PART = "empty path part"
DOT_PART = "'.' or '..' as a path part"
NAME_TOO_LONG = "a name over 255 bytes"
CONTROL_CHARACTER = "a NUL or control character"
NOT_UTF8 = "not UTF-8"
FILE_AND_FOLDER = "a file that is also a folder"
MARKER_WITH_BYTES = "a folder marker that holds bytes"
NOT_READABLE = "not readable"
SPECIAL_FILE = "a device, socket or pipe"
"""Not of object stores: what a directory of the machine may hold besides."""

NAME_MAX = 255
_SHORT = NAME_MAX // 4
"""A text of this many characters has no name over `NAME_MAX` bytes: UTF-8 takes 4 at most."""


def omission(path: str) -> str | None:
    """Why no file system can show `path` (relative, no slash at the end); None if one can."""
    if (
        path.isascii()
        and path.isprintable()
        and len(path) <= NAME_MAX
        and "//" not in path
        and "/." not in path
        and path[:1] not in ("", "/", ".")
    ):
        return None
    return _slow_omission(path)


def _slow_omission(path: str) -> str | None:
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        return NOT_UTF8
    # The C0 controls and DEL: obstore refuses to ask for such keys.
    if any(c < " " or c == "\x7f" for c in path):
        return CONTROL_CHARACTER
    for part in path.split("/"):
        if not part:
            return EMPTY_PART
        if part in (".", ".."):
            return DOT_PART
        if len(part) > _SHORT and len(part.encode()) > NAME_MAX:
            return NAME_TOO_LONG
    return None
