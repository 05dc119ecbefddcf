"""The generator `flow`: crystals by flow matching, from noise to lattice and positions in a few steps.

First the elements: atoms are unmasked one after another, each element drawn given those before it. Then a network moves
fractional coordinates, from uniform noise, and the lattice, from Gaussian noise, along a flow (``_flow_paths.py``). A
formula takes the place of the first part: that is crystal structure prediction.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from torch import Tensor

from mlcalc.crystals import closest_pair
from mlcalc.crystals.symmetry import primitive_cell, symmetrized
from mlcalc.errors import GeneratorError
from mlcalc.generators._blocks import BLOCK, Tried, check_request, in_blocks, sources
from mlcalc.generators._finishing import in_volume, with_group
from mlcalc.generators._flow_data import to_atoms
from mlcalc.generators._flow_sampling import CompositionSampler, Drawn, GeometrySampler, Schedule
from mlcalc.generators._flow_weights import LoadedFlow, load_flow
from mlcalc.generators._weights import find_weights, stamped
from mlcalc.generators.base import LABELS, Candidate, Constraints, Generator, Provenance


class FlowGenerator(Generator):
    """Crystals from a trained flow.

    Targets are told to the networks: for each candidate a value is drawn uniformly from the range. They are wishes, not
    promises.

    Args:
        weights: a weights file of ``mlcalc train-generator``, or the name of one that ships (``"flow-perov"``); None
            takes ``"flow"``.
        steps: of Euler's method.
        slope: how much faster than straight paths positions settle late in time (``Schedule``).
        min_distance: smallest allowed distance in units of the sum of covalent radii, self images included.
        guidance: classifier-free guidance of the targets: 1 follows the network that is told them, more exaggerates
            what they change.
        temperature: of elements: below 1 what is likely comes more often, above 1 less.
        symprec: crystals are moved onto the symmetry that they have within this distance, Å; 0 leaves them as drawn.
        attempts: crystals drawn for one candidate before giving up.
    """

    name = "flow"
    option_names = ("steps", "slope", "min_distance", "guidance", "temperature", "symprec", "attempts")

    def __init__(
        self,
        weights: str | Path | None = None,
        steps: int = 30,
        slope: float = 10.0,
        min_distance: float = 0.6,
        guidance: float = 1.0,
        temperature: float = 1.0,
        symprec: float = 0.1,
        attempts: int = 50,
    ):
        if steps < 1 or attempts < 1:
            raise GeneratorError(f"steps ({steps}) and attempts ({attempts}) must be at least 1")
        if min(slope, guidance, symprec) < 0:
            raise GeneratorError(f"slope ({slope}), guidance ({guidance}) and symprec ({symprec}) must not be negative")
        if not 0.0 < temperature < float("inf"):
            raise GeneratorError(f"temperature must be a positive number, not {temperature}")
        self._loaded = _load(*stamped(find_weights(self.name, weights)))
        self.steps, self.slope, self.guidance, self.temperature = steps, slope, guidance, temperature
        self.min_distance, self.symprec, self.attempts = min_distance, symprec, attempts

    @property
    def elements(self) -> tuple[str, ...]:
        """Elements the model knows."""
        return self._loaded.networks.elements

    @property
    def properties(self) -> tuple[str, ...]:
        """Labels that may be aimed at."""
        return self._loaded.networks.properties

    @property
    def model_hash(self) -> str:
        """Hash of architecture and weights."""
        return self._loaded.model_hash

    def sample(self, n: int, constraints: Constraints, seed: int) -> Iterator[Candidate]:
        """Yield ``n`` candidates; see ``Generator.sample``. They are drawn in blocks of 64."""
        check_request(n, seed)
        targets = {LABELS.get(name, name): (name, ends) for name, ends in constraints.targets().items()}
        unknown = [name for name in targets if name not in self.properties]
        if unknown:
            known = ", ".join(self.properties) or "no property at all"
            raise GeneratorError(f"these weights know nothing of {', '.join(unknown)}; they have learnt {known}")
        networks = self._loaded.networks
        guidance = self.guidance if targets else 1.0
        composition = CompositionSampler(
            networks.composition, networks.scales, self.elements, constraints, self.temperature
        )
        schedule = Schedule(self.steps, self.slope, guidance)
        geometry = GeometrySampler(networks.geometry, networks.scales, schedule, constraints.volume_per_atom)
        return in_blocks(
            n,
            seed,
            self.attempts,
            lambda start: self._block(start, constraints, seed, targets, composition, geometry),
            "allow a larger volume per atom, other space groups or a smaller min_distance",
        )

    def _block(
        self,
        start: int,
        constraints: Constraints,
        seed: int,
        targets: dict[str, tuple[str, tuple[float, float]]],
        composition: CompositionSampler,
        geometry: GeometrySampler,
    ) -> list[Tried]:
        """Draw a whole block, however many of it are wanted, so that the first ones do not depend on that."""
        rngs = sources(seed, start)
        aims = np.full((BLOCK, len(self.properties)), np.nan)
        for label, (_, ends) in targets.items():
            aims[:, self.properties.index(label)] = [rng.uniform(*ends) for rng in rngs]
        told = self._loaded.networks.scales.told(torch.from_numpy(aims).float())
        untold: Tensor | None = torch.zeros_like(told) if geometry.schedule.guidance != 1.0 else None
        tried = [Tried() for _ in rngs]
        for _ in range(self.attempts):
            rows = [k for k in range(BLOCK) if tried[k].candidate is None]
            if not rows:
                break
            without = untold[rows] if untold is not None else None
            mine = [rngs[k] for k in rows]
            counts = composition.draw(told[rows], without, geometry.schedule.guidance, mine)
            for k, row in zip(rows, geometry.draw(counts, told[rows], without, mine), strict=True):
                built = self._build(row, constraints, tried[k].failed)
                if built is not None:
                    asked = {name: float(aims[k, self.properties.index(label)]) for label, (name, _) in targets.items()}
                    details = {"rejected": sum(tried[k].failed.values()), "options": self.options(), **asked}
                    tried[k].candidate = Candidate(
                        built[0],
                        Provenance(
                            generator=self.name,
                            seed=seed,
                            index=start + k,
                            model_hash=self.model_hash,
                            found_space_group=built[1],
                            details=details,
                        ),
                    )
        return tried

    def _build(self, row: Drawn, constraints: Constraints, failed: Counter[str]) -> tuple[Atoms, int | None] | None:
        """Return the atoms and the space group found in them, or None and a reason counted."""
        if not (np.isfinite(row.coordinates).all() and np.isfinite(row.shape).all()):
            failed["not a number"] += 1
            return None
        atoms = to_atoms(row.species, row.coordinates, row.shape, self.elements)
        if self.symprec:
            moved = in_volume(symmetrized(atoms, self.symprec), constraints.volume_per_atom)
            # Where the move brings atoms too close, the crystal stays as drawn.
            atoms = atoms if closest_pair(moved, self.min_distance) is not None else moved
        atoms = in_volume(atoms, constraints.volume_per_atom)
        if closest_pair(atoms, self.min_distance) is not None:
            failed["atoms too close"] += 1
            return None
        if self._repeats(atoms):
            failed["came out as several of a smaller cell"] += 1
            return None
        return with_group(atoms, constraints, failed)

    def _repeats(self, atoms: Atoms) -> bool:
        """Return whether the primitive cell is smaller: the number of atoms asked for is that of a primitive cell."""
        try:
            return len(primitive_cell(atoms, self.symprec or 1e-2)) < len(atoms)
        except ValueError:  # no symmetry at all
            return False


@lru_cache(maxsize=4)
def _load(path: Path, changed: int, size: int) -> LoadedFlow:  # the last two are for the cache
    return load_flow(path)
