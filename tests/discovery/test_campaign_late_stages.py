"""Late stages of a campaign: phonons on a mesh, free energies, dynamics in LAMMPS; and its hull under pressure."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.phonons import Phonons
from ase.units import GPa, _e, _hplanck

from mlcalc.calculators import MLCalculator
from mlcalc.discovery import CampaignSettings, FunnelSettings, run_campaign
from mlcalc.discovery._campaign_stages import STAGES
from mlcalc.discovery._campaign_summary import _compare_free_energies
from mlcalc.errors import WorkflowError
from mlcalc.generators import Candidate, Provenance
from mlcalc.workflows import phonons, relax

TIGHT = {"fmax": 1e-4, "stress_tolerance_gpa": 1e-3, "cell": "full"}


def stage(name: str, atoms: Atoms, folder: Path, calculator: Any = None, **options: Any) -> dict[str, Any]:
    settings = CampaignSettings(**{"mesh_length_ang": 7.0, **options})
    records: list[dict[str, Any]] = []
    STAGES[name]([(7, atoms, {})], {**settings.flat(), "folder": str(folder)}, calculator or EMT(), records.append)
    return records[0]


@pytest.fixture(scope="module")
def close_packed() -> Atoms:
    return relax(bulk("Cu", a=3.6), EMT(), **TIGHT).atoms


@pytest.fixture(scope="module")
def cubic() -> Atoms:
    """Body-centred copper: a saddle of EMT."""
    return relax(bulk("Cu", "bcc", a=2.87), EMT(), symmetry=True, **TIGHT).atoms


def test_a_wave_that_lowers_the_energy_is_named(tmp_path: Path, cubic: Atoms) -> None:
    found = stage("phonons on a mesh", cubic, tmp_path)
    assert (found["status"], found["reason"]) == ("failed", "imaginary modes on the mesh")
    assert "the supercell holds this wave" in found["message"]
    repeats, q = found["supercell"], np.array(found["imaginary_qpoint"])
    assert np.allclose(q * repeats, np.round(q * repeats), atol=1e-4)
    # ASE's phonons of the same supercell at the same q, from forces of its own.
    other = Phonons(cubic, EMT(), supercell=repeats, delta=0.01, name=str(tmp_path / "ase"))
    other.run()
    other.read(acoustic=True)
    document = json.loads((tmp_path / "phonons" / "00007" / "phonons.json").read_text(encoding="utf-8"))
    primitive = np.array(document["primitive"]["cell"])
    same = cubic.cell.array @ np.linalg.solve(primitive, q)
    lowest = float(other.band_structure([same], verbose=False)[0].min()) * _e / _hplanck * 1e-12
    assert lowest < -0.3
    assert float(found["message"].split(" THz")[0]) == pytest.approx(lowest, abs=0.05)
    assert found["min_frequency_thz"] <= lowest + 0.05
    assert (tmp_path / "phonons" / "00007" / "bands.png").stat().st_size > 10000


def test_free_energies_lie_below_those_at_fixed_volume(tmp_path: Path, close_packed: Atoms) -> None:
    mesh = stage("phonons on a mesh", close_packed, tmp_path)
    assert mesh["status"] == "ok"
    assert mesh["imaginary_qpoint"] is None
    found = stage("free energy", close_packed, tmp_path, free_energy_k=300.0)
    assert found["status"] == "ok"
    harmonic = phonons(close_packed, EMT(), min_length=7.0, mesh=60.0, temperatures=(0.0, 300.0, 300.0)).thermal
    atoms = close_packed.copy()
    atoms.calc = EMT()
    fixed = atoms.get_potential_energy() + harmonic.free_energy_ev[-1]
    assert harmonic.free_energy_ev[-1] < -0.01
    # Expansion wins some meV, and no more at room temperature.
    assert fixed - 0.008 < found["free_energy_ev_per_atom"] < fixed
    assert found["volume_ang3_per_atom"] > atoms.get_volume()


def test_a_refused_free_energy_says_why(tmp_path: Path, cubic: Atoms) -> None:
    found = stage("free energy", cubic, tmp_path, free_energy_k=300.0)
    assert (found["status"], found["reason"]) == ("failed", "WorkflowError")
    assert "without imaginary modes" in found["message"]
    with pytest.raises(WorkflowError, match="free_energy_k needs mesh_phonons above 0"):
        CampaignSettings(free_energy_k=300.0, mesh_phonons=0)
    with pytest.raises(WorkflowError, match="give a temperature above 0 K"):
        CampaignSettings(free_energy_k=-1.0)


def test_free_energies_are_compared_within_a_composition() -> None:
    given = [("Cu", -1.0), ("Cu", -1.5), ("Cu", None), ("CuO", -3.0)]
    rows: list[dict[str, Any]] = [
        {"formula": f, "free_energy_ev_per_atom": e, "free_energy_above_lowest_ev_per_atom": None} for f, e in given
    ]
    _compare_free_energies(rows)
    assert [row["free_energy_above_lowest_ev_per_atom"] for row in rows] == [0.5, 0.0, None, 0.0]


def test_dynamics_run_in_lammps(tmp_path: Path) -> None:
    silicon = bulk("Si", cubic=True)
    calculator = MLCalculator("mlearn", dtype="float64")
    options = {"md_steps": 40, "md_length_ang": 5.0, "temperature_k": 300.0}
    found = stage("dynamics", silicon, tmp_path, calculator, md_engine="lammps", **options)
    assert found["status"] == "ok", found
    assert found["md_steps"] == 40
    assert 0.0 < found["rms_displacement_ang"] < 0.3
    assert (tmp_path / "dynamics" / "00007" / "lammps").is_dir()
    with pytest.raises(WorkflowError, match="dynamics run in ase or lammps"):
        CampaignSettings(md_engine="gromacs")


def ordered(a: float) -> Atoms:
    atoms = bulk("Al", "fcc", a=a, cubic=True)
    atoms.symbols[0] = "Ag"
    return atoms


def lowest_enthalpy(make: Any, pressure_gpa: float, low: float, high: float) -> float:
    found = []
    for a in np.linspace(low, high, 401):
        atoms = make(a)
        atoms.calc = EMT()
        found.append((atoms.get_potential_energy() + pressure_gpa * GPa * atoms.get_volume()) / len(atoms))
    return min(found)


@pytest.mark.parametrize(("pressure_gpa", "sign"), [(0.0, -1), (20.0, 1)])
def test_pressure_takes_an_alloy_off_the_hull(tmp_path: Path, pressure_gpa: float, sign: int) -> None:
    """Al3Ag binds at rest; under pressure its elements are denser, and win: the difference of enthalpies says so."""
    settings = CampaignSettings(
        relaxation=FunnelSettings(fmax=0.005, stress_tolerance_gpa=0.02, pressure_gpa=pressure_gpa, max_steps=200),
        reference_atoms=1,
        rattle_ang=0.0,
        phonons=0,
        mesh_phonons=0,
        dynamics=0,
    )
    result = run_campaign(
        lambda: [Candidate(ordered(4.0), Provenance("hand"))], EMT, tmp_path, elements=("Ag", "Al"), settings=settings
    )
    crystal = result.ranked[0]
    alloy = lowest_enthalpy(ordered, pressure_gpa, 3.5, 4.3)
    assert crystal.energy_ev_per_atom == pytest.approx(alloy, abs=2e-3)
    elements = {
        e: min(
            lowest_enthalpy(lambda a, e=e: bulk(e, "fcc", a=a), pressure_gpa, 3.4, 4.4),
            lowest_enthalpy(lambda a, e=e: bulk(e, "bcc", a=a), pressure_gpa, 2.7, 3.5),
        )
        for e in ("Ag", "Al")
    }
    expected = alloy - 0.25 * elements["Ag"] - 0.75 * elements["Al"]
    assert expected * sign > 0.02
    above = crystal.energy_above_hull_ev_per_atom
    assert above == pytest.approx(expected, abs=3e-3)
    assert crystal.on_hull is (sign < 0)
