"""Kubernetes quantities (`10Gi`, `1500m`, `1e3`): exact values, and sizes for people.

Grammar and suffixes are those of Kubernetes' `resource.Quantity`: a signed decimal number followed
by a binary suffix (`Ki` … `Ei`), a decimal one (`n` `u` `m`, none, `k` `M` `G` `T` `P` `E`) or an
exponent (`e3`, `E3`). Values are held to a billionth and rounded away from zero beyond that.
"""

from __future__ import annotations

import math
import re
from fractions import Fraction
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import PydanticCustomError, core_schema

_BINARY = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_GRAMMAR = re.compile(
    r"(?P<number>[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+))"
    r"(?:(?P<suffix>[KMGTPE]i|[numkMGTPE])|[eE](?P<exponent>[+-]?[0-9]{1,3}))?"
)
_NANO = 10**9
_LARGEST = 2**63 - 1
_CURE = "write a number with an optional suffix, such as 10Gi, 500M or 1500m"


def _scale(suffix: str | None, exponent: str | None) -> Fraction:
    if exponent is not None:
        return Fraction(10) ** int(exponent)
    if suffix in _BINARY:
        return Fraction(2 ** _BINARY[suffix])
    return Fraction(10) ** _DECIMAL[suffix or ""]


def _ceil_away_from_zero(value: Fraction) -> int:
    return math.ceil(value) if value >= 0 else math.floor(value)


def _exact(text: str) -> Fraction:
    match = _GRAMMAR.fullmatch(text)
    if match is None or len(text) > 64:
        raise ValueError(f"{text[:64]!r} is not a quantity; {_CURE}")
    value = Fraction(match["number"]) * _scale(match["suffix"], match["exponent"])
    if abs(value) > _LARGEST:
        raise ValueError(f"{text!r} is beyond 2^63-1, the largest quantity; {_CURE}")
    return Fraction(_ceil_away_from_zero(value * _NANO), _NANO)


class Quantity(str):
    """A quantity as it was written, with its exact value; equal texts are equal quantities.

    Being a `str` it can be passed wherever a quantity is read. Raises ValueError when the text is
    no quantity.
    """

    __slots__ = ()

    def __new__(cls, text: str | int | float) -> Quantity:
        """Make one from text, or from a number as YAML gives it (`5`, `0.5`)."""
        written = _number_text(text) if not isinstance(text, str) else text.strip()
        _exact(written)
        return super().__new__(cls, written)

    @property
    def exact(self) -> Fraction:
        """The value, exact to a billionth, in the unit of the field (bytes, cores, files)."""
        return _exact(self)

    @property
    def whole(self) -> int:
        """The value in whole units, rounded away from zero, as Kubernetes' `Value()` does."""
        return _ceil_away_from_zero(self.exact)

    def canonical(self) -> str:
        """The text Kubernetes would print: no fraction, the largest suffix that stays exact."""
        return format_quantity(self.exact, binary=self.endswith("i"))

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        """Accept text and YAML numbers; dump as text."""
        return core_schema.no_info_plain_validator_function(
            _validate_quantity,
            serialization=core_schema.plain_serializer_function_ser_schema(str),
        )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """The schema Kubernetes uses: an integer or a string."""
        pattern = rf"^{_GRAMMAR.pattern}$".replace("?P<number>", "?:").replace("?P<suffix>", "?:")
        return {
            "anyOf": [{"type": "integer"}, {"type": "number"}, {"type": "string"}],
            "pattern": pattern.replace("?P<exponent>", "?:"),
            "x-kubernetes-int-or-string": True,
        }


def _number_text(number: float) -> str:
    if isinstance(number, bool) or not math.isfinite(number):
        raise ValueError(f"{number!r} is not a quantity; {_CURE}")
    return str(number) if isinstance(number, int) else repr(number)


def _validate_quantity(value: Any) -> Quantity:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise PydanticCustomError("quantity_type", "must be a quantity; " + _CURE)
    try:
        return Quantity(value)
    except ValueError as error:
        raise PydanticCustomError("quantity_value", str(error)) from None


def parse_quantity(text: str | int | float) -> int:
    """The value of a quantity in whole units (bytes for a size), rounded away from zero.

    `parse_quantity("10Gi") == 10737418240`, `parse_quantity("1500m") == 2`. Raises ValueError,
    with what may be written instead, when the text is no quantity.
    """
    return Quantity(text).whole


def format_quantity(value: int | Fraction, *, binary: bool = True) -> str:
    """A value as the shortest exact quantity, such as `10Gi`, or `10G` with `binary=False`."""
    value = Fraction(value)
    if value.denominator == 1:
        number = value.numerator
        if binary:
            factors = [(1 << power, suffix) for suffix, power in reversed(_BINARY.items())]
        else:
            factors = [(10**e, suffix) for suffix, e in reversed(_DECIMAL.items()) if e > 0]
        for factor, suffix in factors:
            if number and number % factor == 0:
                return f"{number // factor}{suffix}"
        return str(number)
    for suffix in ("m", "u", "n"):
        scaled = value * 10 ** -_DECIMAL[suffix]
        if scaled.denominator == 1:
            return f"{scaled.numerator}{suffix}"
    return format_quantity(Fraction(_ceil_away_from_zero(value * _NANO), _NANO), binary=binary)


def format_bytes(count: int | float) -> str:
    """A size for people as Fluid prints it, two decimals in binary units: `1.92GiB`, `0.00B`.

    A size that would round up to 1024.00 of a unit is printed in the next one.
    """
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB", "PiB"):
        if abs(round(size, 2)) < 1024:
            return f"{size:.2f}{unit}"
        size /= 1024
    return f"{size:.2f}EiB"


def format_ratio(part: float, whole: float) -> str:
    """A share as Fluid prints it: `12.3%`; `0.0%` of nothing.

    Rounded down where it would else say that nothing is missing.
    """
    if whole <= 0:
        return "0.0%"
    share = min(1.0, part / whole)
    if share < 1:
        share = min(share, 0.999)
    return f"{share * 100:.1f}%"
