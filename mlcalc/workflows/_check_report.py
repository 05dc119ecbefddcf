"""The report of a conformance check."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ase import Atoms

from mlcalc.records import Record, jsonable
from mlcalc.workflows._check_context import Deviation

STATUSES = ("pass", "fail", "reported", "not applicable")


@dataclass(frozen=True)
class CheckItem(Record):
    """What one check found.

    Attributes:
        name: of the check.
        measures: what it measures.
        value: the figure nearest to, or farthest beyond, its tolerance, in ``unit``; None if there is none.
        unit: of ``value`` and ``tolerance``.
        tolerance: allowed value; it grows with the noise of the calculator.
        status: one of ``STATUSES``.
        explanation: where that figure was found, or why there is none.
        where_to_look: what is likely wrong, and where, if the check fails.
        deviations: all figures of the check.
        wall_time_s: seconds.
    """

    name: str
    measures: str
    value: float | None
    unit: str
    tolerance: float | None
    status: str
    explanation: str
    where_to_look: str
    deviations: tuple[Deviation, ...]
    wall_time_s: float

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        values = super().to_dict()
        values["deviations"] = [
            {key: jsonable(getattr(item, key)) for key in ("what", "value", "unit", "tolerance")}
            for item in self.deviations
        ]
        return values


@dataclass(frozen=True)
class CheckReport(Record):
    """What all checks of a calculator found.

    Attributes:
        checks: one item a check.
        structures: what it was tested on, by name.
        curves: force errors against the step, NVE runs, scans; for pictures.
        evaluations: structures evaluated.
        wall_time_s: seconds.
        settings: calculator, elements, options, versions.
    """

    checks: tuple[CheckItem, ...]
    structures: dict[str, Atoms]
    curves: dict[str, Any]
    evaluations: int
    wall_time_s: float
    settings: dict[str, Any]

    @property
    def passed(self) -> bool:
        """Whether no check failed."""
        return not self.failed

    @property
    def failed(self) -> tuple[str, ...]:
        """Names of the checks that failed."""
        return tuple(item.name for item in self.checks if item.status == "fail")

    def __getitem__(self, name: str) -> CheckItem:
        """Return the item of a check by name.

        Raises:
            KeyError: no such check.
        """
        for item in self.checks:
            if item.name == name:
                return item
        raise KeyError(name)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        values = super().to_dict()
        return {"passed": self.passed, "failed": list(self.failed), **values}
