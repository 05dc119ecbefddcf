"""Small sets of crystals, and small networks trained on them."""

from __future__ import annotations

import gzip
import json
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from _perovskites import GAN, PLACES, VAE, cube, trained
from ase.build import bulk


@pytest.fixture(scope="session")
def perovskites(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """90 perovskites and 18 cubes of two atoms as JSON lines; half of the former have a gap and a heat that follow from
    the elements.
    """
    path = tmp_path_factory.mktemp("perovskites") / "perovskites.jsonl.gz"
    rows = []
    combinations = product(("Ca", "Sr", "Ba", "Pb", "K", "Na"), ("Ti", "Zr", "Hf", "Nb", "Ta"), ("O", "F", "N"))
    for k, (a, b, x) in enumerate(combinations):
        atoms = cube(a, b, x)
        row: dict[str, Any] = {"cell": atoms.cell.tolist(), "species": list(atoms.symbols), "frac": PLACES}
        if k % 2 == 0:
            row["labels"] = {"gap": {"O": 3.0, "F": 6.0, "N": 1.0}[x], "heat": (b in ("Nb", "Ta")) + 0.1 * (a == "Pb")}
        rows.append(row)
    for a, x in product(("Ca", "Sr", "Ba", "Pb", "K", "Na"), ("O", "F", "N")):
        atoms = bulk(a + x, "cesiumchloride", a=cube(a, "Ti", x).cell.lengths()[0] * 0.8)
        rows.append(
            {"cell": atoms.cell.tolist(), "species": list(atoms.symbols), "frac": atoms.get_scaled_positions().tolist()}
        )
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    return path


@pytest.fixture(scope="session")
def vae_weights(perovskites: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(VAE, perovskites, tmp_path_factory.mktemp("vae"))


@pytest.fixture(scope="session")
def gan_weights(perovskites: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(GAN, perovskites, tmp_path_factory.mktemp("gan"))
