"""Admission: bounds hold, urgent requests go first, owners take turns."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fluidpy.worker.admission import Admission, Request


class Door:
    """An admission, and what it has let in."""

    def __init__(self, limit: int, bound: int) -> None:
        self.limit = limit
        self.admission: Admission[str] = Admission(lambda _: limit, bound)
        self.started: list[Request[str]] = []
        self.names: dict[Request[str], str] = {}

    def enter(self, mount: str, size: int, owner: str | None, name: str = "") -> Request[str]:
        request: Request[str] = Request(mount, size, lambda: self.started.append(request), owner)
        self.names[request] = name
        self.admission.enter(request)
        return request

    def order(self) -> list[str]:
        return [self.names[request] for request in self.started]


def test_urgent_requests_pass_those_planned_ahead() -> None:
    door = Door(1, 1000)
    first = door.enter("m", 1, None, "first")
    door.enter("m", 1, "reader", "ahead")
    door.enter("m", 1, None, "urgent")
    door.admission.leave(first)
    assert door.order() == ["first", "urgent"]


def test_owners_take_turns() -> None:
    door = Door(1, 1000)
    running = door.enter("m", 1, None, "first")
    for number in range(3):
        door.enter("m", 1, "a", f"a{number}")
    for number in range(3):
        door.enter("m", 1, "b", f"b{number}")
    for _ in range(6):
        door.admission.leave(running)
        running = door.started[-1]
    assert door.order() == ["first", "a0", "b0", "a1", "b1", "a2", "b2"]


def test_a_request_somebody_waits_for_now_leaves_the_line() -> None:
    door = Door(1, 1000)
    first = door.enter("m", 1, None, "first")
    door.enter("m", 1, "a", "a0")
    wanted = door.enter("m", 1, "a", "a1")
    door.admission.hurry(wanted)
    door.admission.leave(first)
    assert door.order() == ["first", "a1"]


def test_a_slow_mount_with_all_bytes_does_not_stop_another() -> None:
    door = Door(16, 100)
    for _ in range(4):
        door.enter("slow", 50, None)
    other = door.enter("fast", 80, None)
    assert other in door.started
    assert len(door.started) == 3


def test_a_mount_that_waited_for_bytes_goes_on_when_another_gives_them_back() -> None:
    door = Door(16, 100)
    first = door.enter("a", 60, None)
    door.enter("b", 40, None)
    waits = door.enter("b", 60, None)
    assert waits not in door.started
    door.admission.leave(first)
    assert waits in door.started


def test_a_withdrawn_request_never_starts() -> None:
    door = Door(1, 100)
    first = door.enter("m", 1, None)
    gone = door.enter("m", 1, "a")
    door.admission.leave(gone)
    door.admission.leave(first)
    assert door.started == [first]


@given(
    st.lists(
        st.one_of(
            st.tuples(
                st.just("enter"),
                st.sampled_from("mn"),
                st.integers(1, 60),
                st.sampled_from([None, "a", "b"]),
            ),
            st.tuples(st.just("leave"), st.integers(0, 50), st.none(), st.none()),
            st.tuples(st.just("hurry"), st.integers(0, 50), st.none(), st.none()),
        ),
        max_size=80,
    )
)
def test_bounds_hold_and_all_are_served(steps: list[tuple[str, object, object, object]]) -> None:
    door = Door(3, 100)
    entered: list[Request[str]] = []
    left: set[Request[str]] = set()
    for kind, what, size, owner in steps:
        if kind == "enter":
            assert isinstance(size, int)
            entered.append(door.enter(str(what), size, None if owner is None else str(owner)))
        elif entered:
            assert isinstance(what, int)
            request = entered[what % len(entered)]
            if kind == "hurry":
                door.admission.hurry(request)
            elif request not in left:
                left.add(request)
                door.admission.leave(request)
        running = [request for request in door.started if request not in left]
        assert sum(request.size for request in running) == door.admission.bytes_running
        for mount in "mn":
            assert sum(request.mount == mount for request in running) <= 3
        if len({request.mount for request in running}) == len(running):
            continue
        assert door.admission.bytes_running <= 100 + 60
    while running := [request for request in door.started if request not in left]:
        left.add(running[0])
        door.admission.leave(running[0])
    assert set(entered) == left
    assert len(door.started) == len(set(door.started))
