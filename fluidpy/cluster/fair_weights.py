"""Weights of a race of which several win, so that each wins as often as its capacity asks (pure).

Where one of several members is chosen for a unit, the weights are the capacities. Where two are, a
member of twice the capacity is chosen less than twice as often, since it is chosen only once for a
unit: with as many replicas as members all would be chosen alike. The weights here make up for it.

The race: a runner of weight w arrives at a time that is exponential with rate w, and the first
`count` to arrive are chosen. So a runner is chosen with the probability that it arrives while fewer
than `count` others have, an integral over its time of arrival.

Weights for equal capacities are equal, and then a member that comes or goes moves no unit that need
not move. Otherwise the weights of those that stay change a little, and so some units move between
them: 3-15 % more than the least, up to 35 % where so few or so unequal members are left that some
of them must own nearly every unit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

ROUNDS: Final = 60
"""Most rounds of correction; about ten give `CLOSE` for capacities that differ by ten times."""

CLOSE: Final = 1e-6
"""Difference of probability that is no longer corrected: hidden by chance up to 10^10 units."""

ALWAYS: Final = 1e9
"""Weight, of those of the others, of a runner that is to be chosen for each unit."""

_STEP: Final = 0.15
_LATEST: Final = 7.0
_EARLIEST: Final = -16.0
"""Times of arrival are looked at as exp(x) for x in these bounds, in these steps: the trapezoidal
rule on a function as smooth as this one is exact to 1e-7 with them."""


def shares_by_capacity(capacities: Sequence[float], count: int) -> list[float]:
    """How often each should be among the `count` chosen, by capacity; nobody more than always.

    What is above 1 goes to the others. `capacities` are positive and at least `count` of them.
    """
    shares = [0.0] * len(capacities)
    rest, left = set(range(len(capacities))), count
    while True:
        total = sum(capacities[at] for at in rest)
        full = {at for at in rest if left * capacities[at] >= total}
        if not full:
            break
        for at in full:
            shares[at] = 1.0
        rest, left = rest - full, left - len(full)
        if not rest or not left:
            break
    for at in rest:
        shares[at] = left * capacities[at] / total
    return shares


@lru_cache(256)
def fair_weights(capacities: tuple[float, ...], count: int) -> tuple[float, ...]:
    """Weights with which each is among the first `count` as often as its capacity asks for.

    `capacities` are positive. The weights of equal capacities are equal.
    """
    if count == 1 or len(set(capacities)) == 1 or len(capacities) <= count:
        return capacities
    shares = shares_by_capacity(capacities, count)
    racing = [at for at, share in enumerate(shares) if share < 1]
    always = len(shares) - len(racing)
    weights = [ALWAYS] * len(shares)
    if racing:
        found = _race([shares[at] for at in racing], count - always)
        for at, weight in zip(racing, found, strict=True):
            weights[at] = weight
    return tuple(weights)


def _race(shares: list[float], count: int) -> list[float]:
    """Weights, one in the mean, with which runners are chosen with the given probabilities."""
    weights = [share * len(shares) / count for share in shares]
    for _ in range(ROUNDS):
        chances = chances_of(weights, count)
        if max(abs(a - b) for a, b in zip(chances, shares, strict=True)) < CLOSE:
            break
        # A runner who arrives by a time T with chance p has the weight -ln(1-p)/T.
        weights = [
            weight * math.log1p(-share) / math.log1p(-chance)
            for weight, share, chance in zip(weights, shares, chances, strict=True)
        ]
        mean = sum(weights) / len(weights)
        weights = [weight / mean for weight in weights]
    return weights


def chances_of(weights: Sequence[float], count: int) -> list[float]:
    """The probability of each runner to be among the first `count`."""
    chances = [0.0] * len(weights)
    for at in range(int((_LATEST - _EARLIEST) / _STEP) + 1):
        time = math.exp(_EARLIEST + at * _STEP)
        away = [math.exp(-weight * time) for weight in weights]
        others = _few_arrived(away, count)
        for index, weight in enumerate(weights):
            chances[index] += weight * time * away[index] * others[index] * _STEP
    return [min(chance, 1 - 1e-12) for chance in chances]


def _few_arrived(away: list[float], count: int) -> list[float]:
    """For each runner the probability that fewer than `count` of the others have arrived.

    `away` is each one's probability of not having arrived.
    """
    before = [[1.0] + [0.0] * (count - 1)]
    for each in away[:-1]:
        before.append(_one_more(before[-1], each))
    after = [1.0] + [0.0] * (count - 1)
    found = [0.0] * len(away)
    for index in range(len(away) - 1, -1, -1):
        first = before[index]
        found[index] = sum(first[i] * after[j] for i in range(count) for j in range(count - i))
        after = _one_more(after, away[index])
    return found


def _one_more(arrived: list[float], away: float) -> list[float]:
    """Probabilities of how many have arrived, with one runner more."""
    here = 1 - away
    return [
        chance * away + (arrived[number - 1] * here if number else 0.0)
        for number, chance in enumerate(arrived)
    ]
