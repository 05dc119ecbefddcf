"""Inverse design: crystals with wanted properties, by a search of the latent space of the generator `vae`.

Latent vectors are drawn from the prior, told what is wanted, and go downhill by the gradient of the property head; then
each is the start of a search by CMA-ES (Hansen, arXiv:1604.00772; the package `cma`), which sees what the gradient
cannot: elements that the constraints allow, atoms that come too close, and the properties that the network reads off
the finished image rather than off the vector. Both keep to places where the prior is used to be.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from torch import Tensor

from mlcalc.errors import CodecError, GeneratorError, SettingsError
from mlcalc.generators._clearance import clearance
from mlcalc.generators._image_choice import Choice
from mlcalc.generators._image_rules import Finish
from mlcalc.generators._image_sampling import short_reason
from mlcalc.generators._image_setting import standard_setting
from mlcalc.generators._targets import check_targets, parse_targets
from mlcalc.generators._vae_network import log_mixture
from mlcalc.generators.base import Candidate, Constraints, Provenance
from mlcalc.generators.vae import VaeGenerator, draw_latent, hard_images

#: Crystals designed together, and part of what a seed means.
_BLOCK = 32
#: How far inside a range to aim, in standard deviations of the training data: predictions are not exact.
_MARGIN = 0.25
_RATE = 0.05
_FIRST_STEP = 0.3
_TRIES = 100
#: Further searches where not a single one ended in a crystal.
_MORE = 5


@dataclass(frozen=True)
class DesignSettings:
    """How hard to search.

    Attributes:
        gradient_steps: steps downhill.
        generations: of CMA-ES.
        population: latent vectors in each.
        rounds: how often to start again where the target was not reached.
    """

    gradient_steps: int = 60
    generations: int = 25
    population: int = 12
    rounds: int = 3

    def __post_init__(self) -> None:
        """Reject what is no search."""
        if self.gradient_steps < 0 or self.generations < 0 or self.population < 4 or self.rounds < 1:
            raise GeneratorError(
                "a search needs at least 0 gradient steps and generations, a population of 4, and 1 round, "
                f"not {self.gradient_steps}, {self.generations}, {self.population}, {self.rounds}"
            )


class Designer:
    """Searches for crystals whose predicted properties lie in given ranges.

    Args:
        weights: of the generator `vae`; None takes those that ship.
        settings: how hard to search.
        min_distance: smallest allowed distance in units of the sum of covalent radii, own images included.
        symprec: what comes out is moved onto the symmetry found at this tolerance, Å; 0 leaves it as it is.
    """

    def __init__(
        self,
        weights: str | Path | None = None,
        settings: DesignSettings | None = None,
        min_distance: float = 0.6,
        symprec: float = 0.1,
    ) -> None:
        self.settings = settings or DesignSettings()
        self.generator = VaeGenerator(weights, min_distance, symprec)
        self.network, self.conditions = self.generator.network, self.generator.conditions

    def design(
        self,
        targets: str | Mapping[str, tuple[float, float]],
        n: int,
        constraints: Constraints | None = None,
        seed: int = 0,
    ) -> Iterator[Candidate]:
        """Yield ``n`` crystals. The same seed gives the same ones, and the first m of n are those that m alone gives.

        Every hard constraint holds. ``details`` of the provenance has ``predicted`` (what the property head reads off
        the finished crystal), ``reached`` (whether that lies in all ranges; if the search failed, the best crystal it
        found comes all the same), ``repeat`` (before it, the search found a crystal that reached the ranges and has the
        same composition and the same element on the roomiest site; 32 crystals are searched together, so that this one
        may have a later number), and ``distance``: how far the latent vector lies from the nearest training
        crystal, in units of the median distance between neighbours there.

        Args:
            targets: ranges by property, or a text such as ``"heat_all<0.2,dir_gap=1.5"`` (``parse_targets``).
            n: how many.
            constraints: hard ones; None allows whatever the codec holds.
            seed: of the search.

        Raises:
            GeneratorError: an impossible target or constraint, or no crystal at all within a bounded search.
        """
        if n < 0 or seed < 0:
            raise GeneratorError(f"the number of crystals ({n}) and the seed ({seed}) must not be negative")
        ranges = (
            parse_targets(targets, self.conditions)
            if isinstance(targets, str)
            else check_targets(targets, self.conditions)
        )
        constraints = constraints or Constraints(n_atoms=(1, self.generator.codec.max_atoms))
        if constraints.targets():
            raise GeneratorError(
                f"{', '.join(constraints.targets())} stand among the constraints; a design takes them as targets"
            )
        choice = Choice(constraints, self.generator.codec)  # fails before the first candidate
        search = _Search(self, ranges, constraints, choice)
        return self._design(n, seed, search)

    def _design(self, n: int, seed: int, search: _Search) -> Iterator[Candidate]:
        seen: set[str] = set()
        for start in range(0, n, _BLOCK):
            yield from search.block(start, seed, seen)[: n - start]

    @cached_property
    def _neighbours(self) -> tuple[np.ndarray, np.ndarray, float]:
        """Scaled latent vectors of training crystals, their scale, and the median distance to the nearest other."""
        from scipy.spatial import KDTree

        known = self.generator.known
        if len(known) < 2:
            return known, np.ones(known.shape[1]), math.nan
        scale = known.std(axis=0) + 1e-9
        nearest = KDTree(known / scale).query(known / scale, k=2)[0][:, 1]
        return known / scale, scale, float(np.median(nearest))

    def distance(self, z: np.ndarray) -> float:
        """Return how far a latent vector is from the nearest training crystal; NaN where the weights hold none."""
        known, scale, usual = self._neighbours
        if math.isnan(usual):
            return math.nan
        return float(np.linalg.norm(known - z / scale, axis=1).min() / max(usual, 1e-9))


class _Search:
    """One target under one set of constraints."""

    def __init__(
        self,
        designer: Designer,
        ranges: Mapping[str, tuple[float, float]],
        constraints: Constraints,
        choice: Choice,
    ) -> None:
        self.designer, self.ranges, self.constraints, self.choice = designer, ranges, constraints, choice
        self.generator, self.network = designer.generator, designer.network
        conditions = designer.conditions
        by_name = {**conditions.targets, **{p: k for k, p in enumerate(conditions.properties)}}
        self.columns = [by_name[name] for name in ranges]
        spread = np.array([conditions.spread[c] for c in self.columns])
        middle = np.array([conditions.middle[c] for c in self.columns])
        bounds = (np.array(list(ranges.values())) - middle[:, None]) / spread[:, None]
        inside = np.minimum(_MARGIN, 0.25 * (bounds[:, 1] - bounds[:, 0]))
        self.low, self.high = (torch.from_numpy(b).float() for b in (bounds[:, 0] + inside, bounds[:, 1] - inside))
        self.finish = Finish(constraints, self.generator.min_distance, self.generator.symprec)

    def missed(self, standardised: Tensor) -> Tensor:
        """Return (B,) sums of squares by which (B, properties) miss the ranges, in standard deviations."""
        values = standardised[:, self.columns]
        return ((self.low - values).clamp_min(0) ** 2 + (values - self.high).clamp_min(0) ** 2).sum(dim=1)

    def block(self, start: int, seed: int, seen: set[str]) -> list[Candidate]:
        """Design a whole block, however many of it are wanted."""
        s = self.designer.settings
        best: list[tuple[float, Candidate] | None] = [None] * _BLOCK
        failed = Counter[str]()
        for attempt in range(s.rounds + _MORE):
            again = attempt < s.rounds
            rows = [
                k for k, one in enumerate(best) if one is None or (again and not one[1].provenance.details["reached"])
            ]
            if not rows:
                break
            rngs = [np.random.default_rng([seed, start + k, attempt]) for k in rows]
            z, usual = self._downhill(rngs)
            for k, order in zip(rows, self._evolve(z, usual, rngs), strict=True):
                self._take(best, k, order, seen, failed, seed, start)
        if missing := [k for k in range(_BLOCK) if best[k] is None]:
            raise GeneratorError(
                f"crystals {', '.join(str(start + k) for k in missing[:5])} (seed {seed}): none in {s.rounds + _MORE} "
                "searches "
                f"({', '.join(f'{reason}: {count}' for reason, count in failed.most_common())}); loosen the constraints"
            )
        return [_of(one) for one in best]

    def _take(
        self,
        best: list[tuple[float, Candidate] | None],
        k: int,
        order: list[np.ndarray],
        seen: set[str],
        failed: Counter[str],
        seed: int,
        start: int,
    ) -> None:
        """Finish the best vectors of one search until one becomes a crystal that is not there yet.

        Where all are there already (``seen`` holds those that reached the ranges), the best of them comes again, marked
        as a repeat, unless an earlier round has found anything. In later rounds a new crystal takes the place of what
        was found, repeat or not, if it misses less: the target counts for more than novelty.
        """
        repeat: tuple[float, Candidate] | None = None
        for z in order:
            found = self._finished(z, failed)
            if found is None:
                continue
            miss, atoms, group, details = found
            name = f"{atoms.symbols.formula.format('hill')} {standard_setting(atoms).symbols[0]}"
            options = {**self.generator.options(), **asdict(self.designer.settings)}
            targets = {n: _jsonable(r) for n, r in self.ranges.items()}
            details |= {"options": options, "targets": targets, "repeat": name in seen}
            provenance = Provenance(
                "design", seed, start + k, self.generator.model_hash, found_space_group=group, details=details
            )
            if name in seen:
                repeat = repeat or (miss, Candidate(atoms, provenance))
                continue
            if best[k] is None or miss < _miss(best[k]):
                best[k] = (miss, Candidate(atoms, provenance))
                if details["reached"]:
                    seen.add(name)
            return
        if best[k] is None:
            best[k] = repeat

    def _downhill(self, rngs: list[np.random.Generator]) -> tuple[Tensor, float]:
        """Return latent vectors after the gradient, and how improbable draws from the prior are at most, usually."""
        told, _ = self.generator.told(self._aims(), rngs)
        z = draw_latent(self.network, told, rngs)
        with torch.no_grad():
            improbable = -log_mixture(z, self.network.prior(self._untold(len(z))))
        usual = float(improbable.median() + 2 * (improbable.std() if len(z) > 1 else 0.0))
        z = z.clone().requires_grad_(True)
        optimizer = torch.optim.Adam([z], lr=_RATE)
        prior = [p.detach() for p in self.network.prior(self._untold(len(z)))]
        for _ in range(self.designer.settings.gradient_steps):
            decoded = self.network.decode(z)
            far = (-log_mixture(z, (prior[0], prior[1], prior[2])) - usual).clamp_min(0)
            loss = (self.missed(self.network.properties(decoded)) + 0.1 * far).sum()
            (z.grad,) = torch.autograd.grad(loss, z)
            optimizer.step()
        return z.detach(), usual

    def _aims(self) -> Constraints:
        """The constraints with the targets as aims, open ends cut off where the training data end."""
        conditions = self.designer.conditions
        aims = {}
        for column, (low, high) in zip(self.columns, self.ranges.values(), strict=True):
            name = list(conditions.targets)[column]
            aims[name] = (max(low, conditions.lowest[column]), min(high, conditions.highest[column]))
        c = self.constraints
        return Constraints(
            elements=c.elements,
            formula=c.formula,
            n_atoms=c.n_atoms,
            chemical_system=c.chemical_system,
            properties=aims,
        )

    def _untold(self, size: int) -> Tensor:
        return self.designer.conditions.vector(None, None, None, size)

    @torch.no_grad()
    def _cost(self, z: Tensor, usual: float) -> np.ndarray:
        """Return (B,) what CMA-ES minimises: of the crystals that the vectors become under the constraints."""
        images = hard_images(self.network.decode(z), self.choice, self.generator.codec)
        mean, _ = self.network.encode(torch.from_numpy(images))
        missed = self.missed(self.network.properties(self.network.decode(mean)))
        far = (-log_mixture(z, self.network.prior(self._untold(len(z)))) - usual).clamp_min(0)
        least = self.generator.min_distance
        close = np.maximum(least - clearance(images, self.generator.codec), 0.0) / max(least, 1e-9)
        cost: np.ndarray = (missed + 0.1 * far).double().numpy() + 3 * close
        return cost

    def _evolve(self, z: Tensor, usual: float, rngs: list[np.random.Generator]) -> list[list[np.ndarray]]:
        """Search around each vector; return the vectors to be finished for each, the best first."""
        cma = _cma()
        s = self.designer.settings
        options = {"popsize": s.population, "verbose": -9, "verb_log": 0, "seed": math.nan}
        # Its own source of randomness each, so that neither the global state nor the order of searches matters.
        searches = [
            cma.CMAEvolutionStrategy(start, _FIRST_STEP, {**options, "randn": lambda *size, r=rng: r.normal(size=size)})
            for start, rng in zip(z.double().numpy(), rngs, strict=True)
        ]
        costs = self._cost(z, usual)
        kept = [[(float(cost), start)] for cost, start in zip(costs, z.double().numpy(), strict=True)]
        for _ in range(s.generations):
            asked = [search.ask() for search in searches]
            flat = torch.from_numpy(np.concatenate(asked)).float()
            costs = self._cost(flat, usual).reshape(len(searches), -1)
            for search, some, cost, keep in zip(searches, asked, costs, kept, strict=True):
                search.tell(some, cost.tolist())
                keep.append((float(cost.min()), np.asarray(some[int(cost.argmin())])))
        return [[z for _, z in sorted(keep, key=lambda pair: pair[0])[:_TRIES]] for keep in kept]

    def _finished(self, z: np.ndarray, failed: Counter[str]) -> tuple[float, Atoms, int | None, dict[str, Any]] | None:
        """Return by how much a finished crystal misses, the crystal, its space group, and what is known of it."""
        drawn = self.generator.draw_at(torch.from_numpy(z).float()[None], self.choice)[0]
        if drawn.atoms is None:
            failed[drawn.reason] += 1
            return None
        finished = self.finish(drawn.atoms, failed)
        if finished is None:
            return None
        atoms, group = finished
        try:
            array = self.generator.codec.encode(standard_setting(atoms))
        except CodecError as error:  # symmetry may have made it smaller or larger
            failed[short_reason(error)] += 1
            return None
        with torch.no_grad():
            mean, _ = self.network.encode(torch.from_numpy(array)[None])
            standardised = self.network.properties(self.network.decode(mean))
        values = self.designer.conditions.in_units(standardised)[0].tolist()
        predicted = dict(zip(self.designer.conditions.properties, values, strict=True))
        reached = all(
            low <= values[column] <= high
            for column, (low, high) in zip(self.columns, self.ranges.values(), strict=True)
        )
        details = {
            "predicted": predicted,
            "reached": reached,
            "distance": self.designer.distance(mean[0].double().numpy()),
        }
        return float(self.missed(standardised)[0]), atoms, group, details


def _cma() -> Any:
    try:
        import cma
    except ImportError as error:
        raise SettingsError("inverse design needs the package cma; pip install 'mlcalc[design]'") from error
    return cma


def _of(one: tuple[float, Candidate] | None) -> Candidate:
    assert one is not None
    return one[1]


def _miss(one: tuple[float, Candidate] | None) -> float:
    assert one is not None
    return one[0]


def _jsonable(ends: tuple[float, float]) -> list[float | None]:
    return [None if math.isinf(end) else end for end in ends]
