"""Diffusion of a hot Lennard-Jones fluid through LAMMPS and through ASE: the same number within error bars."""

from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk
from scripted_lennard_jones import ScriptedLennardJones

from mlcalc.workflows import diffusion, diffusion_from_trajectory

pytestmark = pytest.mark.xdist_group("mpi")


def test_a_fluid_in_lammps_equals_its_trajectory_and_ase(tmp_path: Path) -> None:
    fluid = bulk("Ar", "fcc", a=5.6, cubic=True) * 2
    options = {
        "temperatures_k": 250,
        "steps": 2500,
        "equilibration_steps": 500,
        "timestep_fs": 8.0,
        "blocks": 5,
        "fit_start_fs": 900.0,
    }
    found = {}
    for engine in ("lammps", "ase"):
        result = diffusion(fluid, ScriptedLennardJones(), engine=engine, out=tmp_path / engine, **options)
        element = found[engine] = result.runs[0].elements["Ar"]
        assert element.diffusive
        frames = result.folder / "250K/trajectory.extxyz"
        again = diffusion_from_trajectory(frames, blocks=5, fit_start_fs=900.0).elements["Ar"]
        assert again.diffusion_cm2_per_s == pytest.approx(element.diffusion_cm2_per_s, rel=0.5)  # equilibration in it
    one, other = found["lammps"], found["ase"]
    spread = np.hypot(one.error_cm2_per_s, other.error_cm2_per_s)
    assert one.diffusion_cm2_per_s == pytest.approx(other.diffusion_cm2_per_s, abs=3 * spread)
    assert spread < 0.2 * one.diffusion_cm2_per_s
