from __future__ import annotations

import pytest

from fluidpy.api.cron import cron_error


@pytest.mark.parametrize(
    "expression",
    ["* * * * *", "0 2 * * *", "*/5 0-6,22 1 jan-DEC sun", "@hourly", "0 0 ? * 6", "5/10 * * * *"],
)
def test_schedules_of_kubernetes_are_accepted(expression: str) -> None:
    assert cron_error(expression) == ""


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("", "has 0 fields"),
        ("* * * * * *", "has 6 fields"),
        ("@never", "'@never' is no schedule word"),
        ("60 * * * *", "'60' does not fit the minute, which is 0 to 59"),
        ("* 24 * * *", "hour"),
        ("* * 0 * *", "day of month"),
        ("* * * foo *", "month"),
        ("* * * * 8", "day of week"),
        ("*/0 * * * *", "minute"),
        ("9-5 * * * *", "minute"),
        (", * * * *", "minute"),
        ("٣ * * * *", "minute"),
    ],
)
def test_impossible_schedules_are_told_by_field(expression: str, message: str) -> None:
    assert message in cron_error(expression)
