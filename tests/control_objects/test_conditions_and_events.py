"""Conditions keep since when they hold; events are counted and bounded; moments read back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fluidpy.api.conditions import ConditionStatus, DatasetCondition
from fluidpy.control import events as event_rules
from fluidpy.control.conditions import LONGEST_MESSAGE, set_condition
from fluidpy.control.events import (
    EVENTS_AN_OBJECT,
    KEPT_SECONDS,
    Event,
    ObjectOfEvent,
    normal,
    record,
    warning,
)
from fluidpy.control.moments import age, duration, seconds_of, timestamp
from tests.control_objects.objects import NOW, dataset

PETS = ObjectOfEvent.of(dataset())


def ready(status: ConditionStatus, message: str, now: float) -> DatasetCondition:
    when = timestamp(now)
    return DatasetCondition(
        type="Ready",
        status=status,
        reason="R",
        message=message,
        last_update_time=when,
        last_transition_time=when,
    )


def test_a_condition_remembers_since_when_it_holds() -> None:
    conditions = set_condition([], ready("True", "fine", NOW))
    conditions = set_condition(conditions, ready("True", "still fine", NOW + 5))
    assert conditions[0].message == "still fine"
    assert conditions[0].last_transition_time == timestamp(NOW)
    conditions = set_condition(conditions, ready("False", "no longer", NOW + 9))
    assert conditions[0].last_transition_time == timestamp(NOW + 9)
    assert len(conditions) == 1


def test_nothing_new_is_no_change() -> None:
    old = ready("True", "fine", NOW)
    assert set_condition([old], ready("True", "fine", NOW + 60)) == [old]


def test_a_message_is_bounded() -> None:
    (one,) = set_condition([], ready("True", "x" * 10_000, NOW))
    assert len(one.message or "") == LONGEST_MESSAGE


def test_repeats_are_counted_in_one_event() -> None:
    events: tuple[Event, ...] = ()
    for second in range(5):
        events = record(events, warning(PETS, "Slow", "the source is slow", NOW + second))
    (one,) = events
    assert (one.count, one.first, one.last) == (5, NOW, NOW + 4)
    assert one.to_dict()["involvedObject"]["name"] == "pets"


def test_old_events_leave() -> None:
    events = record((), normal(PETS, "A", "a", NOW))
    events = record(events, normal(PETS, "B", "b", NOW + KEPT_SECONDS + 1))
    assert [one.reason for one in events] == ["B"]


def test_a_long_message_is_cut_to_what_kubernetes_takes() -> None:
    assert len(normal(PETS, "A", "x" * 5000, NOW).message) == event_rules.LONGEST_MESSAGE


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["pets", "cats"]), st.integers(0, 60), st.sampled_from(["A", "B"])
        ),
        max_size=120,
    )
)
def test_events_stay_bounded_unique_and_in_order(happened: list[tuple[str, int, str]]) -> None:
    events: tuple[Event, ...] = ()
    for second, (name, message, reason) in enumerate(happened):
        about = ObjectOfEvent("Dataset", "default", name)
        events = record(events, normal(about, reason, str(message), NOW + second))
    assert len({one.name for one in events}) == len(events)
    assert [one.last for one in events] == sorted(one.last for one in events)
    for name in ("pets", "cats"):
        own = [one for one in events if one.about.name == name]
        assert len(own) <= EVENTS_AN_OBJECT
        latest = [happening for happening in happened if happening[0] == name][-1:]
        for _, message, reason in latest:
            assert (own[-1].message, own[-1].reason) == (str(message), reason)
    assert tuple(Event.from_dict(one.to_dict()) for one in events) == events


@given(st.integers(0, 4_000_000_000))
def test_moments_read_back(seconds: int) -> None:
    assert seconds_of(timestamp(seconds)) == seconds


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-3, "0s"), (0, "0s"), (119, "119s"), (120, "2m"), (185, "3m5s"), (600, "10m"),
        (3 * 3600, "3h"), (3 * 3600 + 65 * 60, "4h5m"), (10 * 3600, "10h"), (50 * 3600, "2d2h"),
        (9 * 86400, "9d"), (3 * 365 * 86400 + 86400, "3y1d"), (9 * 365 * 86400, "9y"),
    ],
)  # fmt: skip
def test_ages_are_kubectls(seconds: int, text: str) -> None:
    assert age(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.9, "0s"), (90, "1m30s"), (3600, "1h0m0s"), (-5, "0s")]
)
def test_durations_are_gos(seconds: float, text: str) -> None:
    assert duration(seconds) == text
