"""The shipped mlearn potentials: pinned numbers, physics that any user would try first, errors on the data."""

import json
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk
from ase.optimize import BFGS

from mlcalc import MLCalculator, load
from mlcalc.errors import UnknownElementError

FILE = Path(__file__).parent / "mlearn_pinned.json"
LATTICES = {"Ni": ("fcc", 3.52), "Li": ("bcc", 3.44), "Mo": ("bcc", 3.17), "Si": ("diamond", 5.46)}
# Force RMSE (eV/Å) of the published NNP, SNAP and qSNAP on the official test split, the lowest of the three.
PUBLISHED = {"Ni": 0.067, "Li": 0.023, "Mo": 0.204, "Si": 0.170}


def shaken(element: str):
    structure, a = LATTICES[element]
    atoms = bulk(element, structure, a=a, cubic=True) * (2, 2, 2)
    atoms.rattle(0.05, seed=7)
    return atoms


@pytest.mark.parametrize("element", LATTICES)
def test_energies_and_forces_are_those_that_shipped(element):
    atoms = shaken(element)
    atoms.calc = MLCalculator("mlearn", dtype="float64")
    pinned = json.loads(FILE.read_text())[element]
    assert atoms.get_potential_energy() == pytest.approx(pinned["energy"], abs=1e-6)
    assert np.abs(atoms.get_forces()[:4] - pinned["forces"]).max() < 1e-6
    assert np.abs(atoms.get_stress() - pinned["stress"]).max() < 1e-8


@pytest.mark.parametrize("element", LATTICES)
def test_crystals_return_when_shaken(element):
    atoms = shaken(element)
    structure, a = LATTICES[element]
    ideal = bulk(element, structure, a=a, cubic=True) * (2, 2, 2)
    atoms.calc = MLCalculator("mlearn", dtype="float64")
    assert BFGS(atoms, logfile=None).run(fmax=0.005, steps=100)
    shift = atoms.positions - ideal.positions
    assert np.abs(shift - shift.mean(axis=0)).max() < 0.03


def test_covers_its_elements_one_at_a_time():
    potential = load("mlearn")
    assert set(potential.info.elements) == set(LATTICES)
    atoms = shaken("Ni")
    atoms.symbols[0] = "Mo"
    atoms.calc = MLCalculator("mlearn")
    with pytest.raises(UnknownElementError, match="Mo"):
        atoms.get_potential_energy()


@pytest.mark.parametrize("element", LATTICES)
def test_errors_on_held_out_frames_are_below_the_published_ones(element, data_folder):
    """The same split as in training; the card's table is made of these frames."""
    import yaml

    from mlcalc.training.dataset import read_labelled, split
    from mlcalc.training.metrics import errors, predict
    from mlcalc.training.settings import settings_from_dict

    config = Path(__file__).parents[2] / "benchmarks" / "mlearn" / f"mlearn-{element}.yaml"
    settings = settings_from_dict(yaml.safe_load(config.read_text()))
    data = read_labelled(data_folder / "potentials" / f"mlearn_{element}_train.xyz", settings.data)
    _, held = split(data, settings.data.validation_fraction, settings.seed)
    figures = errors(predict(load("mlearn", elements=[element]), [data[k] for k in held]))
    assert figures["forces_rmse_ev_per_ang"] < PUBLISHED[element]


def test_energy_is_conserved_alike_in_both_engines(tmp_path):
    """1 ps of NVE at 1 fs, float64: the slope of the total energy stays below 1e-6 eV/atom/ps."""
    from mlcalc.workflows import md

    atoms = bulk("Mo", "bcc", a=3.169, cubic=True) * (3, 3, 3)
    atoms.rattle(0.05, seed=1)
    potential = load("mlearn", elements=["Mo"], dtype="float64")
    slopes = []
    for engine, what in (("ase", MLCalculator(potential)), ("lammps", potential)):
        run = md(
            atoms,
            what,
            ensemble="nve",
            temperature_k=300,
            timestep_fs=1.0,
            steps=1000,
            seed=2,
            out=tmp_path / engine,
            engine=engine,
        )
        assert 200 < run.temperature_k.mean() < 400
        slopes.append(run.drift_ev_per_atom_per_ps)
    assert np.abs(slopes).max() < 1e-6
    assert slopes[0] == pytest.approx(slopes[1], abs=1e-10)
