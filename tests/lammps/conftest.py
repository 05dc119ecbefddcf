"""Model files the LAMMPS tests share: networks with random weights, float64 unless said otherwise."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from halo_cases import plain
from lammps_structures import ELEMENTS
from pair_potential import LennardJones

from mlcalc.deploy import export
from mlcalc.foundation import load_published
from mlcalc.potentials.base import Potential, PotentialInfo
from mlcalc.potentials.registry import build

CUTOFF = 4.0


def network(architecture: str, layers: int, scale: float, **settings: int) -> Potential:
    """Random weights; reference energies tell elements apart."""
    torch.manual_seed(11)
    info = PotentialInfo(elements=ELEMENTS, cutoff=CUTOFF, layers=layers, name=architecture)
    config = {"architecture": architecture, "network": {"layers": layers, **settings}, "zbl": False}
    potential = build(config, info, torch.float64)
    potential.set_energies([-1.0, -2.0], scale)
    return potential.eval()


@pytest.fixture(scope="session")
def models() -> dict[str, Potential]:
    return {
        "equivariant": network("equivariant", 3, 0.7, channels=4, l_max=3),
        "schnet": network("schnet", 2, 200.0, channels=8),
    }


@pytest.fixture(scope="session")
def model_files(models: dict[str, Potential], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    files = {name: folder / f"{name}.pt" for name in models}
    for name, path in files.items():
        export(models[name], path, dtype="float64")
    return files


@pytest.fixture(scope="session")
def networks(models: dict[str, Potential]) -> dict[str, Potential]:
    return {**models, "plain-2": plain(2), "plain-3": plain(3)}


@pytest.fixture(scope="session")
def files(
    networks: dict[str, Potential], model_files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("plain")
    out = dict(model_files)
    for name in ("plain-2", "plain-3"):
        out[name] = folder / f"{name}.pt"
        export(networks[name], out[name])
    return out


@pytest.fixture(scope="session")
def equivariant_file(model_files: dict[str, Path]) -> Path:
    return model_files["equivariant"]


@pytest.fixture(scope="session")
def sevennet() -> Potential:
    return load_published("sevennet-0", "float64")


@pytest.fixture(scope="session")
def sevennet_file(sevennet: Potential, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sevennet") / "sevennet-0.pt"
    export(sevennet, path)
    return path


@pytest.fixture(scope="session")
def lennard_jones() -> LennardJones:
    return LennardJones(epsilon=0.4, sigma=2.2, cutoff=5.0)


@pytest.fixture(scope="session")
def lennard_jones_file(lennard_jones: LennardJones, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lj") / "lj.pt"
    export(lennard_jones, path, dtype="float64")
    return path
