"""SevenNet's own calculator, in either number type, and the structures it is compared on."""

from __future__ import annotations

import functools
import gzip
import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import sevenn.util
import torch
from ase import Atoms
from ase.build import add_adsorbate, bulk, fcc111, graphene, molecule
from sevenn.calculator import SevenNetCalculator

NAMES = {"sevennet-0": "7net-0", "sevennet-l3i5": "7net-l3i5"}


@contextmanager
def upstream(name: str, dtype: torch.dtype) -> Iterator[SevenNetCalculator]:
    """Yield the authors' calculator in a dtype; it is written for float32, so the rest of it is told while it lives."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        calculator = SevenNetCalculator(NAMES[name], device="cpu")
    calculator.model.to(dtype)
    one_hot = dict(calculator.model.named_children())["onehot_idx_to_onehot"]
    original = sevenn.util.dtype_correct

    def cast(module: torch.nn.Module, given: object, data: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        for key in ("x", "node_attr"):
            data[key] = data[key].to(dtype)
        return data

    one_hot.register_forward_hook(cast)
    default = torch.get_default_dtype()
    sevenn.util.dtype_correct = functools.partial(original, float_dtype=dtype)
    torch.set_default_dtype(dtype)
    try:
        yield calculator
    finally:
        torch.set_default_dtype(default)
        sevenn.util.dtype_correct = original


def shaken(atoms: Atoms, seed: int, strain: float = 0.02) -> Atoms:
    """Return a copy with displaced atoms (0.05 Å) and a strained cell, so that nothing vanishes by symmetry."""
    rng = np.random.default_rng(seed)
    result = atoms.copy()
    result.set_cell(result.cell[:] @ (np.eye(3) + strain * rng.normal(size=(3, 3))), scale_atoms=True)
    result.positions += rng.normal(scale=0.05, size=(len(result), 3))
    return result


def crystals(folder: Path, count: int) -> list[Atoms]:
    """Return small crystals of the Materials Project: such that every element occurs, then evenly through the set."""
    with gzip.open(folder / "crystals" / "mp_crystals_train.jsonl.gz", "rt") as stream:
        rows = sorted(map(json.loads, stream), key=lambda row: (len(row["species"]), row["id"]))
    missing = {symbol for row in rows for symbol in row["species"]}
    chosen = []
    for row in rows:
        if missing & set(row["species"]):
            missing -= set(row["species"])
            chosen.append(row)
    rest = [row for row in rows if row not in chosen and len(row["species"]) <= 12]
    chosen += rest[:: max(1, len(rest) // max(1, count - len(chosen)))][: max(0, count - len(chosen))]
    return [
        shaken(Atoms(row["species"], cell=row["cell"], scaled_positions=row["frac"], pbc=True), seed)
        for seed, row in enumerate(chosen)
    ]


def others() -> dict[str, list[Atoms]]:
    """Return what those leave out: molecules, slabs, chains, slivers, one atom with and without a cell."""
    slab = fcc111("Pt", (2, 2, 3), vacuum=6.0)
    add_adsorbate(slab, molecule("CO"), 1.9, "ontop", mol_index=1)
    sheet = graphene(size=(2, 2, 1), vacuum=8.0)
    chain = Atoms("C2H2", [(0, 0, 0), (1.3, 0.3, 0), (0, -1.0, 0), (1.3, 1.3, 0)], cell=[2.6, 12, 12], pbc=(1, 0, 0))
    flat = [[12.1, 0, 0], [11.3, 2.6, 0], [5.2, 1.1, 3.9]]
    sliver = Atoms("GaAs", cell=flat, scaled_positions=[[0, 0, 0], [0.5, 0.5, 0.5]], pbc=True)
    molecules = [molecule(name) for name in ("H2O", "CH3CH2OH", "C6H6", "SiH4", "NaCl", "CH3Cl", "P2")]
    return {
        "crystals": [sliver, bulk("Fe"), bulk("Cu", a=3.4)],
        "molecules, atoms": [shaken(atoms, seed, 0.0) for seed, atoms in enumerate(molecules)]
        + [Atoms(symbol) for symbol in ("H", "Fe", "U")],
        "slabs and chains": [shaken(atoms, 7, 0.0) for atoms in (slab, sheet, chain)],
    }


def large() -> Atoms:
    """Return a cell of 512 atoms."""
    return shaken(bulk("CsCl", "cesiumchloride", a=4.1).repeat((8, 8, 4)), 3)
