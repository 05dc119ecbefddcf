"""Targets of inverse design as people write them: ``heat_all<0.2,dir_gap=1.5``."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from mlcalc.errors import GeneratorError
from mlcalc.generators._image_conditions import Conditions

#: How far a single value may be missed, in standard deviations of the training data.
TOLERANCE = 0.25
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_NAME = r"[A-Za-z_]\w*"
_FORMS = (
    re.compile(rf"(?P<name>{_NAME})(?P<sign>[<>])=?(?P<value>{_NUMBER})"),
    re.compile(rf"(?P<low>{_NUMBER})<=?(?P<name>{_NAME})<=?(?P<high>{_NUMBER})"),
    re.compile(rf"(?P<name>{_NAME})=(?P<low>{_NUMBER}):(?P<high>{_NUMBER})"),
    re.compile(rf"(?P<name>{_NAME})=(?P<exact>{_NUMBER})"),
)


def parse_targets(text: str, conditions: Conditions) -> dict[str, tuple[float, float]]:
    """Return ranges by property; open ends are infinite, a single value stands for a quarter of the spread around it.

    Args:
        text: conditions between commas: ``NAME<V``, ``NAME>V``, ``V<NAME<V``, ``NAME=V:V`` or ``NAME=V``; ``<=`` means
            the same as ``<``. Several conditions on one property must all hold.
        conditions: which properties are known, and how they are spread.

    Raises:
        GeneratorError: a condition that cannot be read, an unknown property, or a range that is empty or has no
            training crystal anywhere near.
    """
    ranges: dict[str, tuple[float, float]] = {}
    for part in text.split(","):
        condition = re.sub(r"\s+", "", part)
        found = next((m for form in _FORMS if (m := form.fullmatch(condition))), None)
        if found is None:
            raise GeneratorError(
                f"target {part.strip()!r} cannot be read; write NAME<V, NAME>V, V<NAME<V, NAME=V:V or NAME=V"
            )
        said = found.groupdict()
        name = said["name"]
        low, high = -math.inf, math.inf
        if "sign" in said:
            low, high = (-math.inf, float(said["value"])) if said["sign"] == "<" else (float(said["value"]), math.inf)
        elif "exact" in said:
            within = TOLERANCE * conditions.spread[_column(name, conditions)]
            low, high = float(said["exact"]) - within, float(said["exact"]) + within
        else:
            low, high = float(said["low"]), float(said["high"])
        before = ranges.get(name, (-math.inf, math.inf))
        ranges[name] = max(low, before[0]), min(high, before[1])
    return check_targets(ranges, conditions)


def check_targets(ranges: Mapping[str, tuple[float, float]], conditions: Conditions) -> dict[str, tuple[float, float]]:
    """Return the ranges if all can be aimed at.

    Raises:
        GeneratorError: none at all, an unknown property, an empty range, or one far from all training crystals.
    """
    if not ranges:
        raise GeneratorError("no target; name a property and a range, e.g. heat_all<0.2")
    for name, (low, high) in ranges.items():
        column = _column(name, conditions)
        if not low <= high:
            raise GeneratorError(f"impossible target: {name} above {low:g} and below {high:g}")
        least, most = conditions.lowest[column], conditions.highest[column]
        if low > most or high < least:
            raise GeneratorError(
                f"impossible target: {name} {_said(low, high)}, but the training crystals have {least:g} to {most:g}, "
                "and a network knows nothing beyond"
            )
    return dict(ranges)


def _column(name: str, conditions: Conditions) -> int:
    if name in conditions.properties:
        return conditions.properties.index(name)
    if name in conditions.targets:
        return conditions.targets[name]
    known = ", ".join(conditions.properties) or "no properties"
    raise GeneratorError(f"unknown property {name!r}; these weights know {known}")


def _said(low: float, high: float) -> str:
    if math.isinf(low):
        return f"below {high:g}"
    return f"above {low:g}" if math.isinf(high) else f"from {low:g} to {high:g}"
