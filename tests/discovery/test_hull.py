from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk
from ase.formula import Formula

from mlcalc.discovery.formation import MATERIALS_PROJECT, fit_corrections, mp2020_kinds, read_formation_energies
from mlcalc.discovery.hull import Hull, Phase
from mlcalc.discovery.identity import EnergyScale
from mlcalc.errors import WorkflowError

SCALE = EnergyScale("PBE", "by hand")


def binary() -> Hull:
    """A at -1, B at -3, AB 0.5 below their mean; AB3 0.1 below, above the line from AB to B."""
    return Hull(
        [
            Phase("A", "Cu", -1.0),
            Phase("A high", "Cu4", -0.8),
            Phase("B", "Au2", -3.0),
            Phase("AB", "CuAu", -2.0 - 0.5),
            Phase("AB3", "CuAu3", -2.5 - 0.1),
        ],
        SCALE,
    )


def test_distances_from_a_hull_worked_out_by_hand() -> None:
    hull = binary()
    assert hull.elements == ("Au", "Cu")
    assert {p.name for p in hull.stable()} == {"A", "B", "AB"}
    # Between AB (half B, -2.5) and B (-3): three quarters B lie at -2.75. AB3 is at -2.6.
    assert hull.energy_above_hull("CuAu3", -2.6, SCALE) == pytest.approx(0.15)
    assert hull.energy_above_hull("Au3Cu", -2.8, SCALE) == pytest.approx(-0.05)
    # Between A (-1) and AB (-2.5), one fifth B: two fifths of the way.
    assert hull.hull_energy("Cu4Au") == pytest.approx(-1.6)
    assert hull.decomposition("Cu4Au") == pytest.approx({"A": 0.6, "AB": 0.4})
    assert hull.formation_energy("CuAu", -2.5, SCALE) == pytest.approx(-0.5)
    assert hull.formation_energy("CuAu3", -2.6, SCALE) == pytest.approx(-0.1)
    # Any cell and order of the same composition is the same place on the hull.
    assert hull.hull_energy("Cu8Au2") == hull.hull_energy("AuCu4")
    assert hull.energy_above_hull(bulk("Cu", cubic=True), -0.9, SCALE) == pytest.approx(0.1)


def test_a_ternary_hull_is_a_plane_of_its_corners() -> None:
    corners = [Phase("A", "Li", -1.0), Phase("B", "Mn", -2.0), Phase("C", "O", -4.0), Phase("ABC", "LiMnO", -3.0)]
    hull = Hull(corners, SCALE)
    # Li2MnO = half LiMnO times 3/2 ... by shares of atoms: 3/4 of LiMnO and 1/4 of Li.
    assert hull.hull_energy("Li2MnO") == pytest.approx(0.75 * -3.0 + 0.25 * -1.0)
    assert hull.hull_energy("LiMn") == pytest.approx(-1.5)


def test_one_element_is_a_hull() -> None:
    hull = Hull([Phase("fcc", "Cu4", -1.0), Phase("sc", "Cu", -0.7)], SCALE)
    assert hull.energy_above_hull("Cu2", -0.7, SCALE) == pytest.approx(0.3)
    assert [p.name for p in hull.stable()] == ["fcc"]


def test_without_a_reference_of_an_element_nothing_is_known() -> None:
    hull = Hull([Phase("Mg", "Mg", -1.5), Phase("MgO", "MgO", -6.0)], SCALE)
    assert hull.energy_above_hull("MgO", -6.0, SCALE) is None
    assert hull.formation_energy("MgO", -6.0, SCALE) is None
    assert hull.decomposition("MgO") is None
    assert hull.energy_above_hull("Mg", -1.0, SCALE) == pytest.approx(0.5)
    assert [p.name for p in hull.unplaced] == ["MgO"]
    assert hull.to_dict()["unplaced"] == ["MgO"]
    later = hull.with_phases([Phase("O2", "O2", -5.0)], SCALE)
    assert later.energy_above_hull("MgO", -6.0, SCALE) == pytest.approx(0.0)
    assert Hull([], SCALE).energy_above_hull("Mg", 0.0, SCALE) is None


def test_scales_never_mix() -> None:
    hull = binary()
    for other in (EnergyScale("PBE", "another potential"), EnergyScale("SCAN", "by hand"), SCALE.at(10.0)):
        with pytest.raises(WorkflowError, match="two scales"):
            hull.energy_above_hull("CuAu", -2.5, other)
        with pytest.raises(WorkflowError, match="two scales"):
            hull.with_phases([Phase("X", "CuAu", -9.0)], other)
    for bad in (float("nan"), float("inf")):
        with pytest.raises(WorkflowError, match="CuAu is"):
            hull.energy_above_hull("CuAu", bad, SCALE)
        with pytest.raises(WorkflowError, match="reference bad"):
            Hull([Phase("bad", "Cu", bad)], SCALE)
    with pytest.raises(WorkflowError, match="not a chemical formula"):
        hull.hull_energy("Xy2")


def test_corrections_give_back_what_was_put_in() -> None:
    own = EnergyScale("PBE", "a potential")
    mu = {"Mg": -1.6, "O": -5.2, "Si": -4.9}
    formation = {"MgO": -3.0, "Mg2Si": -0.3, "SiO2": -3.2, "Mg2SiO4": -3.1, "Mg": 0.0}
    compounds = [Phase(f, f, e + _mean(f, mu)) for f, e in formation.items()]
    fitted = fit_corrections(compounds, list(formation.values()), own)
    assert fitted.ev_per_atom == pytest.approx(mu)
    assert fitted.rms_residual_ev_per_atom < 1e-12
    assert fitted.undetermined == ()
    assert fitted.formation_energy("MgSiO3", -2.9 + _mean("MgSiO3", mu), own) == pytest.approx(-2.9)
    # One compound off by 0.1 eV: the residual says so, and least squares can only lower it.
    compounds[0] = Phase("MgO", "MgO", compounds[0].energy_ev_per_atom + 0.1)
    off = fit_corrections(compounds, list(formation.values()), own)
    assert 0.0 < off.rms_residual_ev_per_atom < 0.1 / np.sqrt(5)
    with pytest.raises(WorkflowError, match="do not fit energies"):
        fitted.formation_energy("MgO", -6.0, EnergyScale("PBE", "another potential"))
    with pytest.raises(WorkflowError, match="zero pressure"):
        fit_corrections(compounds, list(formation.values()), own.at(5.0))


def test_elements_that_compounds_do_not_fix_stay_unknown() -> None:
    own = EnergyScale("PBE", "a potential")
    # Li and F only ever one to one: their sum is known, neither of them is. Mg is, by itself.
    compounds = [Phase("LiF", "LiF", -5.0), Phase("Li2F2", "Li2F2", -4.9), Phase("Mg", "Mg", -1.5)]
    fitted = fit_corrections(compounds, [-3.0, -2.9, 0.0], own)
    assert fitted.undetermined == ("F", "Li")
    assert fitted.ev_per_atom == pytest.approx({"Mg": -1.5})
    assert fitted.formation_energy("LiF", -5.0, own) is None


def test_outliers_and_kinds_of_elements() -> None:
    """Iron at one value in alloys and 2 eV lower in oxides, oxygen as an anion; one compound is wrong by 1 eV."""
    own = EnergyScale("PBE+U", "a potential")
    mu = {"Mg": -1.6, "Al": -3.7, "Fe": -8.0, "Fe +U": -6.0, "O anion": -5.2}
    formulas = [
        "MgO",
        "Al2O3",
        "MgAl2O4",
        "FeO",
        "Fe2O3",
        "MgFe2O4",
        "FeAl",
        "Fe3Al",
        "Mg2Al",
        "Mg",
        "Al",
        "Fe",
        "AlMg",
    ]
    energies = []
    for formula in formulas:
        counts = mp2020_kinds(formula)
        energies.append(sum(n * mu[kind] for kind, n in counts.items()) / sum(counts.values()))
    energies[-1] += 1.0
    compounds = [Phase(f, f, e) for f, e in zip(formulas, energies, strict=True)]
    fitted = fit_corrections(compounds, [0.0] * len(formulas), own, kinds=True, outlier=4.0)
    assert fitted.ev_per_atom == pytest.approx(mu)
    assert (fitted.compounds, fitted.outliers) == (13, 1)
    assert fitted.largest_residual_ev_per_atom == pytest.approx(1.0)
    assert fitted.rms_residual_ev_per_atom == pytest.approx(1.0 / np.sqrt(13))
    assert fitted.robust_residual_ev_per_atom < 1e-9
    assert fitted.formation_energy("FeO", -5.6, own) == pytest.approx(0.0)
    assert fitted.formation_energy("OF2", -5.0, own) is None  # oxygen that is no anion
    assert mp2020_kinds("NaHCO3") == {"Na": 1, "H": 1, "C": 1, "O anion": 3}
    assert mp2020_kinds("CoF3") == {"Co +U": 1, "F anion": 3}
    assert mp2020_kinds("FeS") == {"Fe": 1, "S anion": 1}


def _mean(formula: str, values: dict[str, float]) -> float:
    counts = Formula(formula).count()
    return sum(n * values[e] for e, n in counts.items()) / sum(counts.values())


def test_published_energies_say_what_their_gaps_cost(tmp_path: Path) -> None:
    path = tmp_path / "published.jsonl"
    rows = [
        {"id": "a", "formula": "MgO", "formation_energy_per_atom": -3.0, "e_above_hull": 0.0},
        {"id": "b", "formula": "Mg3O", "formation_energy_per_atom": -1.4, "e_above_hull": 0.1},
        {"id": "c", "formula": "NaCl", "formation_energy_per_atom": -2.0, "e_above_hull": 0.0},
    ]
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    found = read_formation_energies(path, ["Mg", "O"])
    assert [phase.name for phase in found.phases] == ["a", "b"]
    assert found.hull.energy_above_hull("Mg3O", -1.4, MATERIALS_PROJECT) == pytest.approx(0.1)
    assert found.largest_disagreement_ev_per_atom == pytest.approx(0.0, abs=1e-12)
    # Without MgO the hull is the line between the elements.
    path.write_text(json.dumps(rows[1]), encoding="utf-8")
    gap = read_formation_energies(path, ["Mg", "O"])
    assert gap.largest_disagreement_ev_per_atom == pytest.approx(0.1)  # -1.4 is the vertex now: 0 above instead of 0.1
    path.write_text('{"formula": "MgO"}', encoding="utf-8")
    with pytest.raises(WorkflowError, match="line 1: KeyError"):
        read_formation_energies(path, ["Mg", "O"])


def test_the_published_hull_is_found_again(data_folder: Path) -> None:
    path = data_folder / "crystals" / "mp_formation_energies.jsonl.gz"
    found = read_formation_energies(path, ["Al", "Ni"])
    assert found.largest_disagreement_ev_per_atom == pytest.approx(0.0, abs=1e-9)
    formulas = {Formula(p.formula).format("hill") for p in found.hull.stable()} - {"Al", "Ni"}
    assert formulas == {"AlNi", "Al3Ni5", "Al3Ni", "Al3Ni2", "AlNi3"}
    # Other systems lack phases, and say so.
    assert (read_formation_energies(path, ["Mg", "O"]).largest_disagreement_ev_per_atom or 0.0) > 0.01
