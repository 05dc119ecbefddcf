"""The generator `wyckoff`: crystals from a transformer over Wyckoff positions, symmetric by construction.

It draws a space group, then element and Wyckoff position of one site after the other, then the free lattice parameters
and the free coordinates (``_wyckoff_network.py``). Every hard constraint holds because what would break it is masked
when it is drawn (``_wyckoff_rules.py``); only atoms that come too close, impossible angles, and space groups that come
out higher than allowed are drawn again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from ase.geometry import minkowski_reduce
from torch import Tensor

from mlcalc.crystals import WyckoffCrystal, closest_pair, find_space_group
from mlcalc.errors import GeneratorError
from mlcalc.generators._blocks import BLOCK, Tried, check_request, in_blocks, sources
from mlcalc.generators._known import KnownFingerprints
from mlcalc.generators._weights import find_weights, stamped
from mlcalc.generators._wyckoff_data import PROPERTIES, conditions
from mlcalc.generators._wyckoff_rules import Rules
from mlcalc.generators._wyckoff_sampling import Drawn, Sampler
from mlcalc.generators._wyckoff_weights import LoadedNetwork, load_network
from mlcalc.generators.base import Candidate, Constraints, Generator, Provenance

_TARGETS = ("formation_energy_ev_per_atom", "energy_above_hull_ev_per_atom", "band_gap_ev")


class WyckoffGenerator(Generator):
    """Crystals from a trained Wyckoff transformer.

    Where the constraints name elements or a formula, the network is told, and what does not fit is masked. Targets
    (formation energy, energy above hull, band gap) are told to the network: for each candidate a value is drawn
    uniformly from the range. They are wishes, not promises; one without labels in training is refused. Where the
    constraints say nothing about the energy above the hull, the network is told that it is zero, since what is far
    above it is wanted by few.

    Args:
        weights: a weights file of ``mlcalc train-generator``, or the name of one that ships; None takes ``"wyckoff"``.
        min_distance: smallest allowed distance in units of the sum of covalent radii, self images included; one in a
            thousand of the training crystals is below 0.7.
        guidance: classifier-free guidance of the targets: 1 takes the network's conditional probabilities, more
            exaggerates what the targets change in space group and sites.
        attempts: crystals drawn for one candidate before giving up.
        temperature: of space group, elements and positions: below 1 what is likely comes more often, above 1 less.
        geometry_temperature: of lattice and coordinates: the square of their spread goes with it.
        energy_above_hull: told where the constraints name none, eV per atom; None tells nothing, which draws crystals
            as they are in the training data. Zero tells nothing to weights that were trained without such labels.
        known: whether crystals of the data (``LoadedNetwork.known``), or drawn before in the same run, may come, as
            their fingerprints tell; if not, they are drawn again, in up to half of the attempts (rounded down); what is
            known and comes after these has ``known`` in its details. None: only where elements or a formula are named,
            of which known crystals may be what is wanted.
    """

    name = "wyckoff"
    option_names = (
        "min_distance",
        "guidance",
        "attempts",
        "temperature",
        "geometry_temperature",
        "energy_above_hull",
        "known",
    )

    def __init__(
        self,
        weights: str | Path | None = None,
        min_distance: float = 0.7,
        guidance: float = 2.0,
        attempts: int = 100,
        temperature: float = 1.0,
        geometry_temperature: float = 1.0,
        energy_above_hull: float | None = 0.0,
        known: bool | None = None,
    ):
        if guidance < 0 or attempts < 1:
            raise GeneratorError(f"guidance ({guidance}) must not be negative, attempts ({attempts}) at least 1")
        for name, value in (("temperature", temperature), ("geometry_temperature", geometry_temperature)):
            if not 0.0 < value < float("inf"):
                raise GeneratorError(f"{name} must be a positive number, not {value}")
        self._loaded = _load(*stamped(find_weights(self.name, weights)))
        self.min_distance, self.guidance, self.attempts = min_distance, guidance, attempts
        self.temperature, self.geometry_temperature = temperature, geometry_temperature
        self.energy_above_hull, self.known = energy_above_hull, known

    @property
    def elements(self) -> tuple[str, ...]:
        """Elements the model knows."""
        return self._loaded.network.elements

    @property
    def model_hash(self) -> str:
        """Hash of architecture and weights."""
        return self._loaded.model_hash

    def sample(self, n: int, constraints: Constraints, seed: int) -> Iterator[Candidate]:
        """Yield ``n`` candidates; see ``Generator.sample``. They are drawn in blocks of 64."""
        check_request(n, seed)
        if constraints.properties:
            raise GeneratorError(
                f"the generator {self.name!r} knows nothing of {', '.join(constraints.properties)}; "
                "it can aim at formation energy, energy above hull and band gap"
            )
        constraints = self._aimed(constraints)
        rules = Rules(constraints, self.elements)  # fails before the first candidate
        guidance = self.guidance if constraints.targets() else 1.0
        sampler = Sampler(
            self._loaded.network,
            rules,
            constraints.volume_per_atom,
            guidance,
            self.temperature,
            self.geometry_temperature,
        )
        allowed = bool(constraints.species()) if self.known is None else self.known
        seen = None if allowed else self._loaded.known.copy()
        return in_blocks(
            n,
            seed,
            self.attempts,
            lambda start: self._block(start, constraints, seed, sampler, seen),
            "allow a larger volume per atom, fewer atoms or other space groups",
        )

    def _aimed(self, constraints: Constraints) -> Constraints:
        """Return the constraints with the default aim; refuse aims of which the network has seen no labels."""
        labels = [name for name, label in zip(_TARGETS, PROPERTIES, strict=True) if label in self._loaded.labels]
        free = constraints.energy_above_hull_ev_per_atom is None
        hull = "energy_above_hull_ev_per_atom" in labels
        # Zero is the default and nobody's wish; anything else is refused below where there were no labels.
        if free and (aim := self.energy_above_hull) is not None and (hull or aim):
            constraints = replace(constraints, energy_above_hull_ev_per_atom=(aim, aim))
        if unseen := [name for name in constraints.targets() if name not in labels]:
            raise GeneratorError(
                f"these weights were trained without labels of {', '.join(unseen)}; "
                f"they can aim at {', '.join(labels) or 'nothing'}"
            )
        return constraints

    def _block(
        self, start: int, constraints: Constraints, seed: int, sampler: Sampler, seen: KnownFingerprints | None
    ) -> list[Tried]:
        """Draw a whole block, however many of it are wanted, so that the first ones do not depend on that.

        What is ``seen`` is drawn again, and what comes is added to it.
        """
        rngs = sources(seed, start)
        targets = np.full((BLOCK, len(_TARGETS)), np.nan)
        for column, name in enumerate(_TARGETS):
            if name in constraints.targets():
                targets[:, column] = [rng.uniform(*constraints.targets()[name]) for rng in rngs]
        told, untold = self._conditions(constraints, targets)
        tried = [Tried() for _ in rngs]
        for attempt in range(self.attempts):
            rows = [k for k in range(BLOCK) if tried[k].candidate is None]
            if not rows:
                break
            without = untold[rows] if sampler.guidance != 1.0 else None
            drawn = sampler.draw(told[rows], without, [rngs[k] for k in rows])
            for k, row in zip(rows, drawn, strict=True):
                crystal = row.crystal(self.elements)
                built = self._build(crystal, constraints, tried[k].failed)
                if built is not None and crystal is not None:
                    atoms, found = built
                    known = seen is not None and not seen.add(atoms)
                    if known and attempt < self.attempts // 2:
                        tried[k].failed["known"] += 1
                        continue
                    aims = {name: float(v) for name, v in zip(_TARGETS, targets[k], strict=True) if v == v}
                    details = {
                        "rejected": sum(tried[k].failed.values()),
                        "options": self.options(),
                        "wyckoff": crystal.to_dict(),
                        **aims,
                    }
                    if known:  # half of the attempts gave nothing new
                        details["known"] = True
                    tried[k].candidate = Candidate(atoms, self._provenance(row, found, seed, start + k, details))
        return tried

    def _provenance(
        self, row: Drawn, found: int | None, seed: int, index: int, details: dict[str, object]
    ) -> Provenance:
        return Provenance(
            generator=self.name,
            seed=seed,
            index=index,
            model_hash=self.model_hash,
            requested_space_group=row.state.group,
            found_space_group=found,
            log_probability=row.log_symbols + row.log_numbers,
            details=details,
        )

    def _build(
        self, crystal: WyckoffCrystal | None, constraints: Constraints, failed: Counter[str]
    ) -> tuple[Atoms, int | None] | None:
        """Return the atoms and the space group found in them, or None and a reason counted."""
        if crystal is None:
            failed["impossible angles"] += 1
            return None
        atoms = crystal.atoms()
        atoms.set_cell(minkowski_reduce(atoms.cell)[0])  # the same crystal, in a cell that is good to relax
        atoms.wrap()
        if closest_pair(atoms, self.min_distance) is not None:
            failed["atoms too close"] += 1
            return None
        found = find_space_group(atoms)
        if constraints.space_groups and (found is None or found.number not in constraints.space_groups):
            failed["came out in a space group that is not allowed"] += 1
            return None
        return atoms, found.number if found else None

    def _conditions(self, constraints: Constraints, targets: np.ndarray) -> tuple[Tensor, Tensor]:
        """Return what the network is told with and without the targets, (block, conditions) each."""
        n = len(self.elements)
        system: Tensor | None = None
        shares: Tensor | None = None
        # A chemical system of which only a part must be present is no condition the network has learnt: masks only.
        exact = constraints.species() if constraints.formula or not constraints.chemical_system else ()
        if exact:
            system = torch.zeros(BLOCK, n)
            system[:, [self.elements.index(e) for e in exact]] = 1.0
        if constraints.formula:
            counts = torch.tensor(constraints.compositions()[0], dtype=torch.float32)
            shares = torch.zeros(BLOCK, n)
            shares[:, [self.elements.index(e) for e in exact]] = counts / counts.sum()
        values = torch.from_numpy(targets).float()
        return conditions(n, system, shares, values, BLOCK), conditions(n, system, shares, None, BLOCK)


@lru_cache(maxsize=4)
def _load(path: Path, changed: int, size: int) -> LoadedNetwork:  # the last two are for the cache
    return load_network(path)
