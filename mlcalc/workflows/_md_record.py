"""The record that every engine fills in: one row of numbers per logged step."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

COLUMNS = (
    "step",
    "time_fs",
    "temperature_k",
    "potential_ev",
    "kinetic_ev",
    "total_ev",
    "pressure_gpa",
    "volume_ang3",
)


def format_row(values: tuple[float, ...]) -> str:
    """Return one CSV line; numbers read back exactly."""
    return f"{int(values[0])}," + ",".join(repr(float(value)) for value in values[1:]) + "\n"


def read_log(path: Path) -> dict[str, NDArray[np.float64]]:
    """Return the columns of ``log.csv`` by name."""
    with open(path, encoding="utf-8") as file:
        names = file.readline().strip().split(",")
        table = np.array([[float(item) for item in line.split(",")] for line in file], dtype=np.float64)
    return {name: column for name, column in zip(names, table.reshape(-1, len(names)).T, strict=True)}
