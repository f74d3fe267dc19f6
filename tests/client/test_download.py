"""A file that is copied appears whole or not at all, whoever else copies to the same place."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from fluidpy.client.download import whole_file

FIRST = b"the first one's bytes"
SECOND = b"the second's"


def test_copies_to_one_place_at_once_are_whole(tmp_path: Path) -> None:
    target = tmp_path / "target"
    with ExitStack() as first, ExitStack() as second:
        one = first.enter_context(whole_file(str(target)))
        one.write(FIRST)
        other = second.enter_context(whole_file(str(target)))
        other.write(SECOND[:5])
        other.flush()
        first.close()
        assert target.read_bytes() == FIRST
        other.write(SECOND[5:])
        second.close()
        assert target.read_bytes() == SECOND
    assert list(tmp_path.iterdir()) == [target]


def test_a_copy_that_fails_leaves_another_one_alone(tmp_path: Path) -> None:
    target = tmp_path / "target"
    with whole_file(str(target)) as one:
        one.write(FIRST)
        with pytest.raises(OSError, match="gone"), whole_file(str(target)):
            raise OSError("the source is gone")
        assert not target.exists()
    assert target.read_bytes() == FIRST
    assert list(tmp_path.iterdir()) == [target]
