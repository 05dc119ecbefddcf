"""From a periodic net to atoms in a cell: equilibrium placement, then relaxation of bond lengths."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase.data import atomic_numbers

from mlcalc.crystals.periodic_net import CONTACTS, RADII, PeriodicNet, rank_of_neighbours
from mlcalc.errors import CodecError

#: Where lengths are not known, in sums of covalent radii: bonds between atoms with six bonds each, weak edges, and the
#: least distance of what is not bonded. Chosen on 300 crystals, of which most come back so, some larger, some smaller.
BOND, WEAK, APART = 0.98, 1.55, 1.64
#: Bonds are longer the more of them an atom has: with this power of the geometric mean of the two numbers of bonds.
LONGER = 0.15
#: Where lengths are known, nothing that no edge joins need be farther apart than this.
MOST_APART = 2.5


@dataclass(frozen=True)
class Embedding:
    """Atoms and cell found for a net.

    Attributes:
        positions: (N, 3) Å.
        cell: (3, 3) Å, right-handed.
        misfit: root mean square of length found over length wanted, less 1, over all edges; known lengths weigh as much
            as the edge is short, in sums of covalent radii.
    """

    positions: np.ndarray
    cell: np.ndarray
    misfit: float


#: Memory goes with the third power of the number of atoms: a quarter of a GB for this many.
MOST_ATOMS = 128
#: No two nuclei come closer, Å.
SHORTEST = 0.05


def embed(net: PeriodicNet, attempts: int = 12) -> Embedding:
    """Find positions and a cell in which the edges of a net have their lengths.

    The start is the equilibrium placement, where each atom is at the centre of its neighbours (O. Delgado-Friedrichs
    and M. O'Keeffe, Acta Cryst. A59, 351 (2003)), with the lattice that brings edges closest to their lengths. From
    there, and from places near it where that leads nowhere, all coordinates are relaxed (Levenberg-Marquardt).
    Unknown lengths are taken from covalent radii, and atoms that no edge joins then keep apart.

    Args:
        net: connected, along three directions.
        attempts: starts at most; the first is the equilibrium placement, the others are always the same.

    Raises:
        CodecError: no net of a crystal, or more than ``MOST_ATOMS`` atoms.
    """
    if len(net.symbols) > MOST_ATOMS:
        raise CodecError(f"{len(net.symbols)} atoms are too many to place by their bonds; at most {MOST_ATOMS}")
    if (net.lengths < SHORTEST).any():  # NaN, not known, is not
        raise CodecError(f"a bond of {np.nanmin(net.lengths):.3g} Å is none: at least {SHORTEST:g}")
    try:
        return _embedded(net, attempts)
    except np.linalg.LinAlgError as error:
        raise CodecError(f"no crystal has bonds of such lengths ({error})") from error


def _embedded(net: PeriodicNet, attempts: int) -> Embedding:
    directions = net.directions()
    if directions < 3:
        raise CodecError(
            "the bonds do not connect all atoms"
            if directions < 0
            else f"the bonds go on for ever along {directions} directions; a crystal needs 3"
        )
    known = bool(np.isfinite(net.lengths).all())
    bonds = np.maximum(np.bincount(net.pairs[~net.weak].ravel(), minlength=len(net.symbols)), 1)
    crowded = (np.sqrt(bonds[net.pairs].prod(axis=1)) / 6) ** LONGER
    expected = net.radii * np.where(net.weak, WEAK, BOND * crowded)
    lengths = np.where(np.isfinite(net.lengths), net.lengths, expected)
    count = len(net.symbols)
    matrix = net.incidence()
    # As an error of a pixel of the bond image, so that faint pixels, whose lengths are the least certain, weigh least.
    weights = np.where(np.isfinite(net.lengths), np.minimum(net.radii / lengths, 1.0), 1.0)
    best: tuple[float, np.ndarray] | None = None
    apart = _others(net, _reach(net) if known else np.full(count, APART))
    for attempt in range(attempts if known else min(attempts, 6)):
        start = _equilibrium(matrix, count, lengths, (net.radii / lengths) ** (3 if known else 0))
        # The equilibrium placement can be a saddle (atoms that have the same neighbours fall together).
        noise = np.random.default_rng(attempt).normal(size=start.shape)
        start = start + noise * (0.15 * min(attempt, 4) if known else 0.02 + 0.1 * min(attempt, 4))
        # Known lengths mostly suffice. Where parts hang together by few edges, there can be several crystals with all
        # lengths right; in all but one of them atoms that no edge joins come close.
        crowd = apart if not known or attempt >= 3 else None
        placed = _relax(matrix, lengths, weights, start, crowd, fine=known)
        cost = _cost(matrix, lengths, weights, placed) + _crowding(placed, *apart)
        if best is None or cost < best[0]:
            best = (cost, placed)
        if cost < 1e-9 * len(lengths):
            break
    assert best is not None
    placed = best[1]
    if np.linalg.det(placed[count:]) < 0:
        placed = -placed
    return Embedding(placed[:count], placed[count:], _misfit(matrix, lengths, weights, placed))


def _reach(net: PeriodicNet) -> np.ndarray:
    """Return (N,) how near an atom's twelfth neighbour is: what is nearer, in sums of radii, has an edge."""
    near = np.sort(net.lengths / net.radii)
    order = np.argsort(net.lengths / net.radii)
    sorted_net = PeriodicNet(net.symbols, net.pairs[order], net.shifts[order], net.lengths[order], net.weak[order])
    return np.minimum(rank_of_neighbours(sorted_net, near, CONTACTS), MOST_APART)


def _crowding(placed: np.ndarray, matrix: np.ndarray, distances: np.ndarray) -> float:
    return float((np.minimum(np.linalg.norm(matrix @ placed, axis=1) / distances - 1, 0.0) ** 2).sum())


def _cost(matrix: np.ndarray, lengths: np.ndarray, weights: np.ndarray, placed: np.ndarray) -> float:
    return float(((weights * (np.linalg.norm(matrix @ placed, axis=1) / lengths - 1)) ** 2).sum())


def _misfit(matrix: np.ndarray, lengths: np.ndarray, weights: np.ndarray, placed: np.ndarray) -> float:
    errors = np.linalg.norm(matrix @ placed, axis=1) / lengths - 1
    return float(np.sqrt(np.average(errors**2, weights=weights**2)))


def _others(net: PeriodicNet, apart: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return incidence (P, N + 3) and least distances (P,) of all pairs, in 27 cells, that no edge joins.

    ``apart`` (N,) says for each atom how far what it has no edge to must be, in sums of radii; the lesser counts.
    """
    count = len(net.symbols)
    images = np.array([(x, y, z) for x in (-1, 0, 1) for y in (-1, 0, 1) for z in (-1, 0, 1)])
    free = np.ones((count, count, 27), dtype=bool)
    free[np.arange(count), np.arange(count), 13] = False
    within = np.abs(net.shifts).max(axis=1) <= 1
    (i, j), shifts = net.pairs[within].T, net.shifts[within]
    free[i, j, (shifts + 1) @ np.array([9, 3, 1])] = False
    free[j, i, (1 - shifts) @ np.array([9, 3, 1])] = False
    # Each pair once, as edges are.
    free &= np.triu(np.ones((count, count), dtype=bool))[:, :, None]
    free[np.arange(count), np.arange(count), :13] = False
    i, j, image = np.nonzero(free)
    own = RADII[[atomic_numbers[s] for s in net.symbols]]
    pairs = PeriodicNet(net.symbols, np.stack([i, j], axis=1), images[image], i * np.nan, i < 0)
    return pairs.incidence(), np.minimum(apart[i], apart[j]) * (own[i] + own[j])


def _equilibrium(matrix: np.ndarray, count: int, lengths: np.ndarray, stiffness: np.ndarray) -> np.ndarray:
    """Return (N + 3, 3) the placement in which springs along the edges balance, over the lattice that fits best."""
    weighted = stiffness[:, None] * matrix
    laplacian = matrix[:, :count].T @ weighted[:, :count]
    scaled = np.linalg.lstsq(laplacian, -matrix[:, :count].T @ weighted[:, count:], rcond=None)[0]
    steps = matrix[:, :count] @ scaled + matrix[:, count:]
    first, second = np.array([0, 1, 2, 1, 0, 0]), np.array([0, 1, 2, 2, 2, 1])
    squares = steps[:, first] * steps[:, second] * np.where(first == second, 1.0, 2.0) / lengths[:, None] ** 2
    numbers = np.linalg.lstsq(squares, np.ones(len(lengths)), rcond=None)[0]
    metric = np.zeros((3, 3))
    metric[first, second] = metric[second, first] = numbers
    values, vectors = np.linalg.eigh(metric)
    values = np.maximum(values, 0.05 * max(values.max(), float(np.mean(lengths**2))))
    cell = np.linalg.cholesky((vectors * values) @ vectors.T)
    return np.vstack([scaled @ cell, cell])


def _relax(
    matrix: np.ndarray,
    lengths: np.ndarray,
    weights: np.ndarray,
    start: np.ndarray,
    apart: tuple[np.ndarray, np.ndarray] | None,
    fine: bool,
) -> np.ndarray:
    """Minimise the squares of weights times relative errors; pairs in ``apart`` count where they come too close."""
    edges = len(lengths)
    if apart is not None:
        matrix, lengths = np.vstack([matrix, apart[0]]), np.concatenate([lengths, apart[1]])
        weights = np.concatenate([weights, np.ones(len(apart[1]))])

    def errors(placed: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        vectors = matrix @ placed
        found = np.sqrt((vectors**2).sum(axis=1) + 1e-12)
        error = weights * (found / lengths - 1)
        error[edges:] = np.minimum(error[edges:], 0.0)
        return vectors, found, error

    placed, damping = start, 1e-2
    vectors, found, error = errors(placed)
    cost = float(error @ error)
    for _ in range(80 if fine else 40):
        active = error != 0
        if not active.any():
            break
        slope = ((weights / (found * lengths))[:, None] * vectors)[active]
        jacobian = (matrix[active][:, :, None] * slope[:, None, :]).reshape(len(slope), -1)
        hessian, gradient = jacobian.T @ jacobian, jacobian.T @ error[active]
        for _ in range(8):
            step = np.linalg.solve(hessian + damping * np.eye(len(hessian)), -gradient)
            trial = placed + step.reshape(placed.shape)
            new = errors(trial)
            new_cost = float(new[2] @ new[2])
            if new_cost < cost:
                damping = max(damping / 5, 1e-10)
                break
            damping *= 4
        else:
            break
        gain = cost - new_cost
        placed, (vectors, found, error), cost = trial, new, new_cost
        if cost < 1e-15 or gain < (1e-10 if fine else 1e-5) * cost:
            break
    return placed
