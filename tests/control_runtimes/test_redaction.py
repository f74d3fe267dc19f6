"""Secrets never stand in what is kept of a program's output."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fluidpy.control.redaction import LINE_BYTES, Redactor

SECRET = "hunter22-and-more"


@given(st.integers(0, 40), st.integers(1, 70_000))
def test_a_secret_is_hidden_wherever_a_line_without_end_is_cut(before: int, chunk: int) -> None:
    text = b"x" * (LINE_BYTES - before) + SECRET.encode() + b"y" * 3 * LINE_BYTES
    redactor = Redactor([SECRET])
    lines = [
        line
        for at in range(0, len(text), chunk if chunk > 1000 else 1000)
        for line in redactor.lines(text[at : at + (chunk if chunk > 1000 else 1000)])
    ]
    kept = b"".join(line[:-1] for line in (*lines, *redactor.end()))
    assert b"hunter" not in kept
    assert kept.replace(b"***", b"") == text.replace(SECRET.encode(), b"")
    assert redactor.hidden == 1
    assert all(len(line) <= 3 * LINE_BYTES for line in lines)
