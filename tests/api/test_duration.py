from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fluidpy.api.duration import (
    format_duration,
    format_duration_nanoseconds,
    parse_duration,
    parse_duration_nanoseconds,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30m", 1800.0),
        ("1m30s", 90.0),
        ("1.5h", 5400.0),
        ("0", 0.0),
        ("-2s", -2.0),
        ("+.5s", 0.5),
        ("100ms", 0.1),
        ("1h1m1s1ms1us1ns", 3661.001001001),
        ("3µs", 3e-6),
        ("3μs", 3e-6),
    ],
)
def test_a_duration_is_read_as_go_reads_it(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "30", "1d", "s", "1 m", "1m-3s", "m30", ".s", "9999999h", "٣s"]
)
def test_what_is_no_duration_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r"90s, 1m30s or 1\.5h"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (90, "1m30s"),
        (3600, "1h0m0s"),
        (5400.5, "1h30m0.5s"),
        (0.25, "250ms"),
        (0.0000015, "1.5µs"),
        (5e-9, "5ns"),
        (-90, "-1m30s"),
    ],
)
def test_a_duration_is_written_as_go_writes_it(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@given(st.integers(-(2**63) + 1, 2**63 - 1))
def test_every_duration_survives_formatting(nanoseconds: int) -> None:
    assert parse_duration_nanoseconds(format_duration_nanoseconds(nanoseconds)) == nanoseconds
