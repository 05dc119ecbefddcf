"""Drawing a block of crystals from the Wyckoff transformer, row by row with a random source of its own each."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from scipy.special import log_ndtr, ndtri_exp
from torch import Tensor

from mlcalc.crystals import Orbit, WyckoffCrystal
from mlcalc.errors import CrystalError
from mlcalc.generators._wyckoff_lattice import from_shape
from mlcalc.generators._wyckoff_network import Cache, WyckoffNetwork, coordinate_log_density
from mlcalc.generators._wyckoff_rules import Rules, State
from mlcalc.generators._wyckoff_vocabulary import letter_names, site_tables


@dataclass
class Drawn:
    """One crystal being drawn.

    Attributes:
        state: sites so far.
        sites: (element, letter) indices in order.
        coordinates: (3,) by axis of each site.
        shape: (6,) of the lattice.
        log_symbols: log probability of space group, elements and letters.
        log_numbers: log density of lattice and coordinates.
    """

    state: State
    sites: list[tuple[int, int]] = field(default_factory=list)
    coordinates: list[np.ndarray] = field(default_factory=list)
    shape: np.ndarray = field(default_factory=lambda: np.zeros(6))
    log_symbols: float = 0.0
    log_numbers: float = 0.0

    def crystal(self, vocabulary: tuple[str, ...]) -> WyckoffCrystal | None:
        """Return the crystal, or None where its lattice is impossible."""
        number = self.state.group
        names, free = letter_names(number), site_tables()[2][number - 1].numpy()
        try:
            lattice = from_shape(number, self.shape, self.state.atoms)
            orbits = tuple(
                Orbit(vocabulary[e], names[l], tuple(float(v) for v in xyz[free[l]]))
                for (e, l), xyz in zip(self.sites, self.coordinates, strict=True)
            )
            return WyckoffCrystal(number, orbits, lattice)
        except CrystalError:
            return None


class Sampler:
    """Draws crystals that obey rules.

    Args:
        network: in evaluation mode.
        rules: masks of the constraints.
        volume: smallest and largest volume per atom, Å³.
        guidance: how far to go from the logits without targets to those with; 1 takes the latter.
        temperature: of space group, elements and letters; below 1 what is likely becomes likelier.
        geometry_temperature: of lattice and coordinates; the square of their spread goes with it.
    """

    def __init__(
        self,
        network: WyckoffNetwork,
        rules: Rules,
        volume: tuple[float, float] | None,
        guidance: float,
        temperature: float = 1.0,
        geometry_temperature: float = 1.0,
    ) -> None:
        self.network, self.rules, self.guidance = network, rules, guidance
        self.temperature, self.geometry_temperature = temperature, geometry_temperature
        self.log_volume = None if volume is None else np.log(volume) + np.array([1e-9, -1e-9])
        if self.log_volume is not None and self.log_volume[0] > self.log_volume[1]:
            self.log_volume[:] = self.log_volume.mean()
        with torch.no_grad():
            self.vectors = network.vectors()

    @torch.no_grad()
    def draw(self, told: Tensor, untold: Tensor | None, rngs: list[np.random.Generator]) -> list[Drawn]:
        """Draw one crystal a row.

        Args:
            told: (B, conditions).
            untold: (B, conditions) without the targets, for guidance; None without.
            rngs: one a row.
        """
        self.rows = len(rngs)
        condition = told if untold is None else torch.cat([told, untold])
        self.copies = len(condition) // self.rows
        self.there = torch.zeros(len(condition), 0, dtype=torch.bool)
        self.cache: Cache | None = None
        yes = np.ones(self.rows, dtype=bool)
        self.start = self.network.condition(condition)
        hidden = self._step(self.start, yes)
        chosen, logs = _choose(self._guided(self.network.group_head(hidden)), self.rules.groups[None], rngs)
        drawn = [Drawn(State(int(g) + 1), log_symbols=float(p)) for g, p in zip(chosen, logs, strict=True)]
        self.group = torch.from_numpy(np.tile(chosen, self.copies))
        hidden = self._step(self.network.group_token(self.group) + self.start, yes)
        last = self._sites(drawn, hidden, rngs)
        self._lattices(drawn, last, rngs)
        self._coordinates(drawn, rngs)
        return drawn

    def _step(self, tokens: Tensor, real: np.ndarray) -> Tensor:
        """Feed one token a row; rows that are not real get a token that nobody sees later."""
        new = torch.from_numpy(np.tile(real, self.copies))[:, None]
        mask = torch.cat([self.there, torch.ones_like(new)], dim=1)[:, None]
        hidden, self.cache = self.network.body(tokens[:, None], mask, self.cache)
        self.there = torch.cat([self.there, new], dim=1)
        return hidden[:, 0]

    def _guided(self, logits: Tensor) -> np.ndarray:
        logits = logits.double()
        if self.copies == 2:
            with_targets, without = logits.chunk(2)
            logits = without + self.guidance * (with_targets - without)
        return logits.numpy() / self.temperature

    def _tempered(self, log_weights: Tensor) -> Tensor:
        """Return log weights of the components of a mixture at the temperature of the geometry."""
        return torch.log_softmax(log_weights / self.geometry_temperature, dim=-1)

    def _sites(self, drawn: list[Drawn], hidden: Tensor, rngs: list[np.random.Generator]) -> Tensor:
        """Draw sites until every row has ended; return the hidden states of the last sites."""
        last = hidden
        active = np.ones(self.rows, dtype=bool)
        while True:
            rows = np.flatnonzero(active)
            options = [self.rules.options(drawn[r].state) for r in rows]
            allowed = np.array([np.append(table.any(axis=1), end) for table, end in options])
            mine = [rngs[r] for r in rows]
            chosen, logs = _choose(self._guided(self.network.element_head(hidden))[rows], allowed, mine)
            element = np.zeros(self.rows, dtype=np.int64)
            for k, r in enumerate(rows):
                drawn[r].log_symbols += float(logs[k])
                active[r] = chosen[k] < self.rules.size
                element[r] = chosen[k] if active[r] else 0
            if not active.any():
                return last
            kept = np.flatnonzero(active[rows])
            rows = rows[kept]
            elements = torch.from_numpy(np.tile(element, self.copies))[:, None]
            logits = self.network.letter_logits(self.vectors, hidden[:, None], self.group, elements)[:, 0]
            allowed = np.array([options[k][0][element[r]] for k, r in zip(kept, rows, strict=True)])
            chosen, logs = _choose(self._guided(logits)[rows], allowed, [rngs[r] for r in rows])
            letter, so_far = np.zeros(self.rows, dtype=np.int64), np.ones(self.rows, dtype=np.float32)
            for k, r in enumerate(rows):
                row = drawn[r]
                row.log_symbols += float(logs[k])
                row.sites.append((int(element[r]), int(chosen[k])))
                row.state = row.state.plus(*row.sites[-1])
                letter[r], so_far[r] = chosen[k], row.state.atoms
            letters, amounts = (torch.from_numpy(np.tile(a, self.copies))[:, None] for a in (letter, so_far))
            tokens = self.network.site_tokens(self.vectors, self.group, elements, letters, amounts)[:, 0]
            hidden = self._step(tokens + self.start, active)
            last = torch.where(torch.from_numpy(np.tile(active, self.copies))[:, None], hidden, last)

    def _lattices(self, drawn: list[Drawn], last: Tensor, rngs: list[np.random.Generator]) -> None:
        mixture = [t.double() for t in self.network.lattice_mixture(last[: self.rows])]
        log_weights, means = self._tempered(mixture[0]).numpy(), mixture[1].numpy()
        log_widths = mixture[2].numpy() + 0.5 * math.log(self.geometry_temperature)
        free = site_tables()[3].numpy()
        for k, (row, rng) in enumerate(zip(drawn, rngs, strict=True)):
            weights, widths = log_weights[k].copy(), np.exp(log_widths[k])
            mine = free[row.state.group - 1]
            z, mass = np.zeros((0, 0)), np.zeros(len(weights))
            if self.log_volume is not None:
                # Components count by what they hold of the range, and are cut to it: the volume is exact.
                z = (self.log_volume[None] - means[k][:, :1]) / widths[:, :1]
                mass = _log_mass(z[:, 0], z[:, 1])
                weights = weights + mass
                row.log_numbers -= float(np.logaddexp.reduce(weights))
                weights = weights - np.logaddexp.reduce(weights)
            component = _pick(np.exp(weights), rng)
            value = means[k][component] + widths[component] * rng.standard_normal(6)
            if self.log_volume is not None:
                x = _truncated(z[component, 0], z[component, 1], mass[component], rng)
                value[0] = np.clip(means[k][component, 0] + widths[component, 0] * x, *self.log_volume)
            row.shape = np.where(mine, value, 0.0)
            each = -0.5 * ((value - means[k]) / widths) ** 2 - log_widths[k] - 0.5 * math.log(2 * math.pi)
            row.log_numbers += float(np.logaddexp.reduce(log_weights[k] + (each * mine).sum(axis=1)))

    def _coordinates(self, drawn: list[Drawn], rngs: list[np.random.Generator]) -> None:
        axes = site_tables()[2].numpy()
        free = [[axes[row.state.group - 1, l] for _, l in row.sites] for row in drawn]
        where = [[k for k, f in enumerate(mine) if f.any()] for mine in free]
        for row in drawn:
            row.coordinates = [np.zeros(3) for _ in row.sites]
        shape = torch.from_numpy(np.stack([row.shape for row in drawn])).float().repeat(self.copies, 1)
        before = np.zeros((self.rows, 3))
        known = np.zeros((self.rows, 3))
        for step in range(max(len(w) for w in where)):
            active = np.array([step < len(w) for w in where])
            numbers = np.zeros((3, self.rows), dtype=np.int64)
            for r in np.flatnonzero(active):
                k = where[r][step]
                so_far = sum(_multiplicity(drawn[r], j) for j in range(k + 1))
                numbers[:, r] = (*drawn[r].sites[k], so_far)
            e, l, n = (torch.from_numpy(np.tile(a, self.copies))[:, None] for a in numbers)
            sites = self.network.site_tokens(self.vectors, self.group, e, l, n.float())
            previous, given = (torch.from_numpy(np.tile(a, (self.copies, 1))).float()[:, None] for a in (before, known))
            tokens = self.network.geometry_tokens(sites, previous, given, shape)[:, 0]
            mixture = self.network.coordinate_mixture(self._step(tokens + self.start, active)[: self.rows])
            log_weights, centres, log_kappa = (t.double() for t in mixture)
            log_weights = self._tempered(log_weights)
            log_kappa = log_kappa - math.log(self.geometry_temperature)
            weights, middle, kappa = log_weights.exp().numpy(), centres.numpy(), log_kappa.exp().numpy()
            for r in np.flatnonzero(active):
                k, rng = where[r][step], rngs[r]
                component = _pick(weights[r], rng)
                value = rng.vonmises(2 * np.pi * middle[r, component], kappa[r, component]) / (2 * np.pi) % 1.0
                drawn[r].coordinates[k] = np.where(free[r][k], value, 0.0)
                before[r], known[r] = drawn[r].coordinates[k], free[r][k]
            logs = coordinate_log_density(
                (log_weights, centres, log_kappa), torch.from_numpy(before), torch.from_numpy(known)
            )
            for r in np.flatnonzero(active):
                drawn[r].log_numbers += float(logs[r])


def _multiplicity(row: Drawn, site: int) -> int:
    return int(site_tables()[1][row.state.group - 1, row.sites[site][1]])


def _pick(weights: np.ndarray, rng: np.random.Generator) -> int:
    cumulative = np.cumsum(weights)
    return min(int(np.searchsorted(cumulative, rng.random() * cumulative[-1], side="right")), len(weights) - 1)


def _choose(logits: np.ndarray, allowed: np.ndarray, rngs: list[np.random.Generator]) -> tuple[np.ndarray, np.ndarray]:
    """Draw one allowed entry a row; return indices and log probabilities."""
    masked = np.where(allowed, logits, -np.inf)
    logs = masked - np.logaddexp.reduce(masked, axis=1, keepdims=True)
    chosen = np.array([_pick(p, rng) for p, rng in zip(np.exp(logs), rngs, strict=True)])
    return chosen, logs[np.arange(len(chosen)), chosen]


def _log_mass(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Log of the standard normal's probability between two values, also far out in a tail."""
    flip = low > 0
    low, high = np.where(flip, -high, low), np.where(flip, -low, high)
    outer, inner = log_ndtr(high), log_ndtr(low)
    return outer + np.log1p(-np.exp(np.minimum(inner - outer, -1e-15)))


def _truncated(low: float, high: float, log_mass: float, rng: np.random.Generator) -> float:
    """Draw from the standard normal between two values."""
    sign = 1.0
    if low > 0:
        low, high, sign = -high, -low, -1.0
    at = np.logaddexp(log_ndtr(low), np.log(1.0 - rng.random()) + log_mass)
    return sign * float(np.clip(ndtri_exp(min(at, 0.0)), low, high))
