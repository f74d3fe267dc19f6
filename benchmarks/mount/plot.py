"""A plot as SVG, without any library: a panel a scenario, a bar a system, whiskers as quartiles."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from benchmarks.mount.rounds import Outcome, Row

_COLUMNS = 2
_PANEL_WIDTH, _LABEL_WIDTH, _RIGHT = 520, 150, 60
_BAR, _GAP, _HEAD, _FOOT = 16, 6, 34, 22
_OURS, _PEER, _PLAIN, _INK = "#2266aa", "#c9a36a", "#9a9a9a", "#222222"
_MOST = 1.5
"""Bars end here; a larger ratio is written beside its bar."""


def _colour(system: str) -> str:
    if system == "plain":
        return _PLAIN
    return _OURS if system.startswith("fluidpy") else _PEER


def _text(x: float, y: float, words: str, *, end: bool = False, bold: bool = False) -> str:
    anchor = ' text-anchor="end"' if end else ""
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{x:.1f}" y="{y:.1f}"{anchor}{weight}>{escape(words)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, *, dashed: bool = False) -> str:
    dash = ' stroke-dasharray="3 3"' if dashed else ""
    place = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {place} stroke="{_INK}"{dash}/>'


def _bar(row: Row, x: float, y: float, unit_width: float) -> list[str]:
    parts = [_text(x - 6, y + _BAR - 4, row.system, end=True)]
    found = row.comparison
    if found is None:
        return [*parts, _text(x + 4, y + _BAR - 4, "failed")]
    width = min(found.ratio, _MOST) * unit_width
    box = f'x="{x:.1f}" y="{y:.1f}" width="{max(width, 1):.1f}" height="{_BAR}"'
    parts.append(f'<rect {box} fill="{_colour(row.system)}"/>')
    low, high = (min(r, _MOST) * unit_width + x for r in (found.ratio_lower, found.ratio_upper))
    if row.system != "plain":
        parts.append(_line(low, y + _BAR / 2, high, y + _BAR / 2))
    words = f"{found.ratio:.2f}" + ("*" if row.unfinished else "")
    return [*parts, _text(max(x + width, high) + 4, y + _BAR - 4, words)]


def _height(outcome: Outcome) -> int:
    return _HEAD + len(outcome.rows) * (_BAR + _GAP) + _FOOT


def _panel(outcome: Outcome, left: float, top: float) -> list[str]:
    x, unit_width = left + _LABEL_WIDTH, (_PANEL_WIDTH - _LABEL_WIDTH - _RIGHT) / _MOST
    parts = [_text(left + 8, top + 20, outcome.title, bold=True)]
    y = top + _HEAD
    for row in outcome.rows:
        parts += _bar(row, x, y, unit_width)
        y += _BAR + _GAP
    return [
        *parts,
        _line(x, top + _HEAD - 4, x, y),
        _line(x + unit_width, top + _HEAD - 4, x + unit_width, y, dashed=True),
    ]


def svg(outcomes: Sequence[Outcome], caption: str) -> str:
    """The plot: speed ÷ the plain directory's, which is the dashed line at 1."""
    rows = [outcomes[start : start + _COLUMNS] for start in range(0, len(outcomes), _COLUMNS)]
    parts, top = [_text(8, 20, caption)], 32.0
    for row in rows:
        for column, outcome in enumerate(row):
            parts += _panel(outcome, column * _PANEL_WIDTH, top)
        top += max(_height(outcome) for outcome in row)
    words = "speed ÷ plain directory (dashed); line on a bar: quartiles; *: stopped at its limit"
    parts.append(_text(8, top + 4, words))
    size = f'width="{_COLUMNS * _PANEL_WIDTH}" height="{top + 16:.0f}"'
    style = f'font-family="sans-serif" font-size="12" fill="{_INK}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style}>'
    ground = '<rect width="100%" height="100%" fill="white"/>'
    return "\n".join([head, ground, *parts, "</svg>", ""])
