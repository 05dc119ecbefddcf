"""Perovskites of made-up sizes, and the small networks that are trained on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from ase import Atoms
from ase.data import atomic_numbers, covalent_radii

from mlcalc.generators.training import generator_settings, make_trainer

PLACES = [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
VAE: dict[str, Any] = {
    "generator": "vae",
    "epochs": 25,
    "batch_size": 16,
    "learning_rate": 0.01,
    "validation_fraction": 0.15,
    "patience": 100,
    "max_atoms": 6,
    "divergence": 0.02,
    "network": {"width": 16, "layers": 1, "heads": 2, "feedforward": 32, "latent": 6, "mixture": 4},
}
GAN: dict[str, Any] = {
    "generator": "gan",
    "epochs": 15,
    "batch_size": 16,
    "learning_rate": 2e-3,
    "validation_fraction": 0.15,
    "patience": 100,
    # So little training leaves atoms on top of each other; constraints must hold all the same.
    "codec": {
        "name": "coordinate",
        "elements": ["Ca", "Sr", "Ba", "Pb", "K", "Na", "Ti", "Zr", "Hf", "Nb", "Ta", "N", "O", "F"],
        "max_atoms": 6,
        "min_distance_ang": 1e-6,
    },
    "critic_steps": 2,
    "network": {"width": 16, "blocks": 1, "noise": 8},
}


def cube(a: str, b: str, x: str) -> Atoms:
    """A cubic perovskite with edges from covalent radii."""
    radius = {e: covalent_radii[atomic_numbers[e]] for e in (b, x)}
    return Atoms([a, b, x, x, x], cell=[2 * (radius[b] + radius[x])] * 3, pbc=True, scaled_positions=PLACES)


def trained(values: dict[str, Any], data: Path, out: Path) -> Path:
    """Train and return the weights file."""
    torch.set_num_threads(1)
    name, settings = generator_settings({**values, "data": [str(data)], "out": str(out)})
    trainer = make_trainer(name, settings)
    trainer.run()
    return trainer.weights_file
