"""What a worker can tell again of what changed."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from fluidpy.namespace.catalog_rows import Changes
from fluidpy.worker.recent_changes import KEPT_SECONDS, MOST_ROWS, RecentChanges

steps = st.lists(st.tuples(st.floats(0, 40), st.integers(0, MOST_ROWS // 4)), max_size=12)


@given(steps, st.floats(0, KEPT_SECONDS))
@example([], KEPT_SECONDS)
def test_what_is_told_is_all_of_it_or_nothing(
    steps: list[tuple[float, int]], seconds: float
) -> None:
    now = [0.0]
    recent = RecentChanges(lambda: now[0])
    told: list[tuple[float, list[int]]] = []
    for pause, count in steps:
        now[0] += pause
        rows = list(range(len(told) * MOST_ROWS, len(told) * MOST_ROWS + count))
        recent.add(Changes([], [], rows))
        told.append((now[0], rows))
    changes = recent.since(seconds)
    wanted = [row for at, rows in told if now[0] - at <= seconds for row in rows]
    kept = sum(len(rows) for at, rows in told if now[0] - at <= KEPT_SECONDS)
    assert changes is not None or kept > MOST_ROWS
    if changes is not None:
        assert changes.removed == wanted


def test_a_flood_is_not_remembered_but_noticed() -> None:
    now = [1000.0]
    recent = RecentChanges(lambda: now[0])
    recent.add(Changes(list(range(MOST_ROWS + 1)), [], []))
    assert recent.since(1.0) is None
    now[0] += 2.0
    assert recent.since(1.0) == Changes.none()
    assert recent.since(KEPT_SECONDS + 1) is None
