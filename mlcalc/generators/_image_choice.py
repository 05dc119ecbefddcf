"""Which element stands in which column of a coordinate image: the likeliest choice that obeys the constraints."""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment

from mlcalc.crystals.coordinate_image import CoordinateImage
from mlcalc.errors import GeneratorError
from mlcalc.generators.base import Constraints

_NEVER = -1e9


def check_fits(constraints: Constraints) -> None:
    """Raise GeneratorError where the range of atoms holds no formula unit, or not all elements that must occur.

    Compositions of elements are so many that they are not to be listed for this.
    """
    if constraints.formula or len(constraints.elements) > constraints.n_atoms[1]:
        constraints.compositions()  # says so; there is none to be listed


class Choice:
    """Chooses elements for columns.

    Columns are taken as independent. Of all ways to fill them that the constraints allow (a range of atoms, in the
    first columns; whole formula units; elements that must or may occur), ``choose`` returns the likeliest.

    Args:
        constraints: hard ones on what a crystal is made of.
        codec: of the images.

    Raises:
        GeneratorError: an element the codec does not know, more atoms than it holds, or nothing that fits.
    """

    def __init__(self, constraints: Constraints, codec: CoordinateImage) -> None:
        species = constraints.species()
        unknown = [e for e in species if e not in codec.elements]
        if unknown:
            raise GeneratorError(
                f"{' '.join(unknown)} did not occur in the training of these weights, which know "
                f"{' '.join(sorted(codec.elements))}"
            )
        low, high = constraints.n_atoms
        if low > codec.max_atoms:
            raise GeneratorError(f"these weights make crystals of at most {codec.max_atoms} atoms, not {low}")
        self.numbers = range(low, min(high, codec.max_atoms) + 1)
        self.columns = codec.max_atoms
        index = {e: 1 + k for k, e in enumerate(codec.elements)}
        self.formulas: list[list[int]] = []
        self.required: list[int] = []
        self.allowed = np.array([1 + k for k in range(len(codec.elements))])
        if species:
            check_fits(constraints)
            if constraints.formula:
                counts = [c for c in constraints.compositions() if sum(c) in self.numbers]
                self.formulas = [
                    [index[e] for e, n in zip(species, row, strict=True) for _ in range(n)] for row in counts
                ]
            if not self.formulas if constraints.formula else len(constraints.elements) > self.numbers[-1]:
                raise GeneratorError(f"these weights make crystals of at most {codec.max_atoms} atoms; none fits")
            self.allowed = np.array(sorted(index[e] for e in species))
            self.required = [index[e] for e in constraints.elements]
        self.free = not species

    def choose(self, log_probabilities: np.ndarray) -> np.ndarray:
        """Return the kinds of all columns, 0 for none.

        Args:
            log_probabilities: (columns, 1 + elements), that of no atom first.
        """
        logs = np.maximum(log_probabilities, _NEVER)
        # Score of leaving all columns from the k-th on empty.
        empty = np.append(np.cumsum(logs[::-1, 0])[::-1], 0.0)
        best: tuple[float, np.ndarray] | None = None
        options = [self._formula(logs, f) for f in self.formulas] if self.formulas else self._numbers(logs)
        for score, kinds in options:
            total = score + empty[len(kinds)]
            if best is None or total > best[0]:
                best = total, kinds
        assert best is not None  # checked by the constructor
        return np.pad(best[1], (0, self.columns - len(best[1])))

    def _formula(self, logs: np.ndarray, atoms: list[int]) -> tuple[float, np.ndarray]:
        gains = logs[: len(atoms), atoms]
        rows, slots = linear_sum_assignment(gains, maximize=True)
        return float(gains[rows, slots].sum()), np.array(atoms)[slots]

    def _numbers(self, logs: np.ndarray) -> list[tuple[float, np.ndarray]]:
        """Fill the first n columns as well as can be, for every n that is allowed."""
        best = self.allowed[logs[:, self.allowed].argmax(axis=1)]
        gains = logs[np.arange(len(logs)), best]
        found = []
        for n in self.numbers:
            if n < len(self.required):
                continue
            kinds, score = best[:n].copy(), float(gains[:n].sum())
            if self.required:
                # Each required element gets a column of its own, where that costs least; the others stay.
                losses = gains[:n, None] - logs[:n, self.required]
                rows, slots = linear_sum_assignment(losses)
                kinds[rows] = np.array(self.required)[slots]
                score -= float(losses[rows, slots].sum())
            found.append((score, kinds))
        return found
