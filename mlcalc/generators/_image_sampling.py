"""What generators of images share: blocks, attempts, told and untold constraints."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from ase import Atoms
from torch import Tensor

from mlcalc.errors import CodecError, GeneratorError
from mlcalc.generators._blocks import BLOCK, Tried, check_request, in_blocks, sources
from mlcalc.generators._image_conditions import Conditions
from mlcalc.generators._image_rules import Finish
from mlcalc.generators.base import Candidate, Constraints, Generator, Provenance


@dataclass
class Drawn:
    """What one row of a batch became.

    Attributes:
        atoms: the crystal; None where the image describes none.
        reason: why not.
        details: for the provenance.
    """

    atoms: Atoms | None
    reason: str = ""
    details: dict[str, Any] = field(default_factory=dict)


class ImageGenerator(Generator):
    """Crystals from a network that draws images.

    Args:
        min_distance: smallest allowed distance in units of the sum of covalent radii, own images included.
        symprec: what comes out is moved onto the symmetry found at this tolerance, Å; 0 leaves it as it is.
        attempts: crystals drawn for one candidate before giving up.
    """

    option_names = ("min_distance", "symprec", "attempts")

    def __init__(self, min_distance: float, symprec: float, attempts: int) -> None:
        if min_distance < 0 or symprec < 0 or attempts < 1:
            raise GeneratorError(
                f"min_distance ({min_distance}) and symprec ({symprec}) must not be negative, "
                f"attempts ({attempts}) at least 1"
            )
        self.min_distance, self.symprec, self.attempts = min_distance, symprec, attempts

    @property
    @abstractmethod
    def conditions(self) -> Conditions:
        """What the network can be told."""

    @property
    @abstractmethod
    def model_hash(self) -> str:
        """Hash of architecture and weights."""

    @abstractmethod
    def _drawer(self, constraints: Constraints) -> Any:
        """Return whatever ``_draw`` needs of the constraints; raise GeneratorError where they cannot be met."""

    @abstractmethod
    def _draw(self, drawer: Any, told: Tensor, rngs: Sequence[np.random.Generator]) -> list[Drawn]:
        """Draw a crystal a row, told (B, conditions)."""

    def sample(self, n: int, constraints: Constraints, seed: int) -> Iterator[Candidate]:
        """Yield ``n`` candidates; see ``Generator.sample``. They are drawn in blocks of 64."""
        check_request(n, seed)
        unknown = sorted(set(constraints.targets()) - set(self.conditions.targets))
        if unknown:
            known = ", ".join(self.conditions.targets) or "no properties"
            raise GeneratorError(f"these weights know nothing of {', '.join(unknown)}; they know {known}")
        drawer = self._drawer(constraints)  # fails before the first candidate
        finish = Finish(constraints, self.min_distance, self.symprec)
        return in_blocks(
            n,
            seed,
            self.attempts,
            lambda start: self._block(start, constraints, seed, drawer, finish),
            "loosen the constraints",
        )

    def _block(self, start: int, constraints: Constraints, seed: int, drawer: Any, finish: Finish) -> list[Tried]:
        """Draw a whole block, however many of it are wanted, so that the first ones do not depend on that."""
        rngs = sources(seed, start)
        told, aims = self.told(constraints, rngs)
        tried = [Tried() for _ in rngs]
        for _ in range(self.attempts):
            rows = [k for k in range(BLOCK) if tried[k].candidate is None]
            if not rows:
                break
            for k, drawn in zip(rows, self._draw(drawer, told[rows], [rngs[k] for k in rows]), strict=True):
                if drawn.atoms is None:
                    tried[k].failed[drawn.reason] += 1
                    continue
                finished = finish(drawn.atoms, tried[k].failed)
                if finished is None:
                    continue
                atoms, group = finished
                rejected = tried[k].failed.total()
                details = {"rejected": rejected, "options": self.options(), **drawn.details, **aims[k]}
                tried[k].candidate = Candidate(
                    atoms,
                    Provenance(
                        generator=self.name,
                        seed=seed,
                        index=start + k,
                        model_hash=self.model_hash,
                        found_space_group=group,
                        details=details,
                    ),
                )
        return tried

    def told(
        self, constraints: Constraints, rngs: Sequence[np.random.Generator]
    ) -> tuple[Tensor, list[dict[str, float]]]:
        """Return (B, conditions) of what a network is told, and the aims drawn from the ranges, by name."""
        conditions, size = self.conditions, len(rngs)
        values = torch.full((size, len(conditions.properties)), torch.nan)
        aims: list[dict[str, float]] = [{} for _ in rngs]
        for name, (low, high) in constraints.targets().items():
            for k, rng in enumerate(rngs):
                aims[k][name] = float(rng.uniform(low, high))
                values[k, conditions.targets[name]] = aims[k][name]
        # A chemical system of which only a part must be present is no condition that was learnt: masks only.
        exact = constraints.species() if constraints.formula or not constraints.chemical_system else ()
        shares, told = None, None
        if exact:
            counts = constraints.compositions()[0] if constraints.formula else (1,) * len(exact)
            row = torch.zeros(len(conditions.elements))
            row[[conditions.elements.index(e) for e in exact]] = torch.tensor(counts, dtype=torch.float32)
            shares = (row / row.sum()).expand(size, -1)
            told = torch.full((size,), 2 if constraints.formula else 1)
        return conditions.vector(shares, told, values, size), aims


def short_reason(error: CodecError) -> str:
    """Shorten what a codec says, so that like failures are counted together."""
    text = str(error)
    for short in ("clash", "degenerate", "no atoms"):
        if short in text:
            return {"clash": "atoms clash", "degenerate": "lattice is degenerate"}.get(short, short)
    return "image describes no crystal"
