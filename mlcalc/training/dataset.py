"""Labelled structures: reading, splitting by trajectory, batching."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import ase
import ase.io
import numpy as np
import torch
from ase.data import atomic_numbers
from numpy.typing import NDArray
from torch import Tensor

from mlcalc.errors import TrainingError
from mlcalc.graphs import build_graph
from mlcalc.graphs.graph import Graph, collate
from mlcalc.training.settings import DataSettings, TrainingSettings


@dataclass(frozen=True)
class Labelled:
    """One structure with its labels (ASE units; stress (3, 3) eV/Å³, tension positive, or None)."""

    atoms: ase.Atoms
    energy: float
    forces: NDArray[np.float64]
    stress: NDArray[np.float64] | None
    group: str


@dataclass(frozen=True)
class Batch:
    """A graph with labels as tensors: energies (B,), forces (N, 3), strain derivatives ∂E/∂ε (B, 3, 3) and
    their mask (B,)."""

    graph: Graph
    energies: Tensor
    forces: Tensor
    volumes: Tensor
    strain: Tensor
    has_stress: Tensor
    sizes: Tensor


def _stress(value: object, where: str) -> NDArray[np.float64]:
    array = np.asarray(value, dtype=np.float64)
    if array.size == 9:
        full = array.reshape(3, 3)
        if np.abs(full - full.T).max() > 1e-3 * max(np.abs(full).max(), 1e-6):
            raise TrainingError(f"{where}: the stress is not symmetric")
        return 0.5 * (full + full.T)
    if array.size == 6:
        xx, yy, zz, yz, xz, xy = array.ravel()
        return np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
    raise TrainingError(f"{where}: a stress has 6 or 9 numbers, not {array.size}")


def read_labelled(path: str | Path, settings: DataSettings | None = None) -> list[Labelled]:
    """Read an extended XYZ file with energies and forces, and stresses where given.

    Raises:
        TrainingError: if the file cannot be read, a frame lacks a label, or a label is not finite; names the frame.
    """
    settings = settings or DataSettings()
    path = Path(path)
    if not path.is_file():
        raise TrainingError(f"no file {path}")
    if path.suffix == ".gz":
        raise TrainingError(f"{path}: decompress it first (reading frames out of a gzip file takes quadratic time)")
    try:
        frames = ase.io.read(path, ":")
    except Exception as error:
        raise TrainingError(f"{path} is not a readable extended XYZ file: {error}") from error
    out = []
    for number, atoms in enumerate(frames):
        where = f"{path.name}, frame {number}"
        results = atoms.calc.results if atoms.calc is not None else {}
        energy = atoms.info.get(settings.energy_key, results.get(settings.energy_key))
        forces = atoms.arrays.get(settings.forces_key, results.get(settings.forces_key))
        stress = atoms.info.get(settings.stress_key, results.get(settings.stress_key))
        if energy is None or forces is None:
            missing = settings.energy_key if energy is None else settings.forces_key
            raise TrainingError(f"{where} has no {missing!r}; set data.energy_key / data.forces_key in the config")
        tensor = None if stress is None or atoms.cell.rank != 3 else _stress(stress, where)
        forces = np.asarray(forces, dtype=np.float64)
        labels = [np.asarray(energy), forces, atoms.positions] + ([] if tensor is None else [tensor])
        if not all(np.isfinite(x).all() for x in labels):
            raise TrainingError(f"{where} holds a label or position that is not finite")
        group = str(atoms.info.get(settings.group_key, "all"))
        bare = ase.Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
        out.append(Labelled(bare, float(energy), forces, tensor, group))
    if not out:
        raise TrainingError(f"{path} holds no frames")
    return out


_BLOCK = 4  # frames held out together


def _same_trajectory(a: Labelled, b: Labelled) -> bool:
    return (
        a.group == b.group
        and np.array_equal(a.atoms.numbers, b.atoms.numbers)
        and np.allclose(a.atoms.cell, b.atoms.cell)
    )


def _blocks(data: Sequence[Labelled]) -> list[list[list[int]]]:
    """Return, for each group in alphabetical order, the indices of its blocks of frames."""
    blocks: dict[str, list[list[int]]] = {}
    for k, item in enumerate(data):
        mine = blocks.setdefault(item.group, [])
        if mine and mine[-1][-1] == k - 1 and len(mine[-1]) < _BLOCK and _same_trajectory(data[k - 1], item):
            mine[-1].append(k)
        else:
            mine.append([k])
    return [blocks[group] for group in sorted(blocks)]


def take_fold(data: Sequence[Labelled], folds: int, fold: int) -> tuple[list[int], list[int]]:
    """Return the indices of the frames outside and inside one of several folds, for cross-validation.

    Every ``folds``-th block (see ``split``) of every group belongs to a fold, so that the folds are alike, do not
    overlap and together hold every frame.

    Raises:
        TrainingError: if the fold, or what is left without it, is empty.
    """
    numbered = enumerate(block for group in _blocks(data) for block in group)
    inside = sorted(k for b, block in numbered if b % folds == fold for k in block)
    outside = sorted(set(range(len(data))) - set(inside))
    if not inside or not outside:
        raise TrainingError(f"{len(data)} structures are too few for fold {fold} of {folds}")
    return outside, inside


def split(data: Sequence[Labelled], fraction: float, seed: int) -> tuple[list[int], list[int]]:
    """Split into training and validation indices without parting neighbouring frames of trajectories one by one.

    Consecutive frames with the same group, composition and cell count as a trajectory and are cut into blocks of at
    most four; within each group, whole blocks are held out: the first at random, the others evenly spaced after it,
    so that every part of the group (temperatures run one after the other, say) is represented.

    Args:
        data: structures in file order.
        fraction: share of frames to hold out.
        seed: of the choice.

    Raises:
        TrainingError: if there are too few structures.
    """
    rng = np.random.default_rng(seed)
    held: list[int] = []
    for mine in _blocks(data):
        stride = 1.0 / fraction
        # Groups of several blocks give at least one; a lone block is held out as rarely as any other.
        position = rng.uniform(0, min(stride, len(mine)) if len(mine) > 1 else stride)
        while position < len(mine):
            held += mine[int(position)]
            position += stride
    training = sorted(set(range(len(data))) - set(held))
    if not training or not held:
        raise TrainingError(f"{len(data)} structures are too few to hold out a validation set; give data.validation")
    return training, sorted(held)


def read_sets(settings: TrainingSettings) -> tuple[list[Labelled], list[Labelled], list[Labelled]]:
    """Return the training, validation and test sets of a run.

    Raises:
        TrainingError: as ``read_labelled``, ``take_fold`` and ``split``.
    """
    where = settings.data
    training, validation, test = (
        [item for path in paths for item in read_labelled(path, where)]
        for paths in (where.train, where.validation, where.test)
    )
    if where.folds:
        outside, inside = take_fold(training, where.folds, where.fold)
        test += [training[k] for k in inside]
        training = [training[k] for k in outside]
    if not where.validation:
        kept, held = split(training, where.validation_fraction, settings.seed)
        training, validation = [training[k] for k in kept], [training[k] for k in held]
    return training, validation, test


def elements_of(data: Sequence[Labelled]) -> tuple[str, ...]:
    """Return the chemical symbols that occur, by atomic number."""
    return tuple(
        sorted({s for item in data for s in item.atoms.get_chemical_symbols()}, key=atomic_numbers.__getitem__)
    )


class GraphDataset:
    """Graphs and labels of structures, built once and kept as tensors.

    Args:
        data: labelled structures.
        elements: order of the species indices.
        cutoff: Å.
        needs: index tables the potential wants.
        dtype: of vectors and labels.
    """

    def __init__(
        self,
        data: Sequence[Labelled],
        elements: Sequence[str],
        cutoff: float,
        needs: Sequence[str] = (),
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.data = list(data)
        self.dtype = dtype
        self.graphs = [build_graph(d.atoms, elements, cutoff, needs=tuple(needs), dtype=dtype) for d in self.data]

    def __len__(self) -> int:
        """Return the number of structures."""
        return len(self.data)

    def batch(self, indices: Sequence[int]) -> Batch:
        """Return the chosen structures as one batch."""
        chosen = [self.data[i] for i in indices]
        volumes = [d.atoms.cell.volume if d.atoms.cell.rank == 3 else 0.0 for d in chosen]
        stress = [np.zeros((3, 3)) if d.stress is None else d.stress * v for d, v in zip(chosen, volumes, strict=True)]

        def tensor(value: object) -> Tensor:
            return torch.tensor(np.asarray(value), dtype=self.dtype)

        return Batch(
            graph=collate([self.graphs[i] for i in indices]),
            energies=torch.tensor([d.energy for d in chosen], dtype=torch.float64),
            forces=tensor(np.concatenate([d.forces for d in chosen])),
            volumes=tensor(volumes),
            strain=tensor(np.stack(stress)),
            has_stress=torch.tensor([d.stress is not None for d in chosen]),
            sizes=tensor([len(d.atoms) for d in chosen]),
        )

    def batches(self, size: int, order: Sequence[int] | None = None) -> Iterator[Batch]:
        """Yield batches of ``size`` structures in the given order (default: as stored)."""
        indices = list(range(len(self))) if order is None else list(order)
        for start in range(0, len(indices), size):
            yield self.batch(indices[start : start + size])

    def mean_neighbors(self) -> float:
        """Return the mean number of edges per atom."""
        return sum(g.n_edges for g in self.graphs) / max(1, sum(g.n_atoms for g in self.graphs))

    def min_distance(self) -> float:
        """Return the shortest edge in Å (0 without edges)."""
        lengths = [float(torch.linalg.norm(g.edge_vectors, dim=1).min()) for g in self.graphs if g.n_edges]
        return min(lengths, default=0.0)
