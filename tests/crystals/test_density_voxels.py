from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.data import atomic_numbers, chemical_symbols

from mlcalc.crystals import DensityVoxels, make_codec
from mlcalc.crystals._voxel_peaks import draw_peaks, fit_peaks, peak_profiles
from mlcalc.crystals.atomic_densities import form_factor, superposed_density
from mlcalc.crystals.density_voxels import place_in_table
from mlcalc.crystals.io import read_crystals
from mlcalc.errors import CodecError


def codec_for(atoms: Atoms, points: int = 32) -> DensityVoxels:
    return DensityVoxels(sorted(set(atoms.get_chemical_symbols())), points=points)


def periodic_distances(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    steps = one[:, None] - other
    return np.linalg.norm(steps - np.round(steps), axis=2)


def test_awkward_crystals_come_back(awkward: Atoms, same_crystal) -> None:
    codec = codec_for(awkward)
    back = codec.decode(codec.encode(awkward))
    assert back.cell.handedness == 1
    assert same_crystal(awkward, back, 1e-4)


@pytest.mark.parametrize("symbol", ["H", "O", "Na", "Fe", "Gd", "U"])
def test_form_factors_count_electrons(symbol: str) -> None:
    number = atomic_numbers[symbol]
    s = np.linspace(0, 3, 301)
    f = form_factor(symbol, number, s)
    assert f[0] == number
    assert np.all(np.diff(f[:100]) < 0.01)  # of light elements the table wobbles a little near its end
    assert abs(f[-1]) < 0.02 * number


def test_density_of_hydrogen_is_that_of_its_orbital() -> None:
    # |1s|² has the transform 1 / (1 + (2π a0 s)²)²; five Gaussians come that close.
    s = np.linspace(0.02, 0.6, 30)
    exact = 1 / (1 + (2 * np.pi * 0.529177 * s) ** 2) ** 2
    assert form_factor("H", 1, s) == pytest.approx(exact, abs=0.012)


def test_density_integrates_to_the_electrons() -> None:
    atoms = bulk("ZnO", "wurtzite", a=3.25, c=5.2)
    for points in ((20, 20, 20), (18, 24, 30)):
        density = superposed_density(atoms, points, 1.0)
        assert density.shape == points
        assert density.mean() * atoms.get_volume() == pytest.approx(2 * (30 + 8), abs=1e-9)
        assert density.min() > -1e-6


def test_first_channel_is_the_density_in_electrons_per_cubic_angstrom() -> None:
    atoms = bulk("NaCl", "rocksalt", a=5.64)
    electrons = codec_for(atoms).encode(atoms)[0].astype(float)
    assert electrons.mean() * atoms.get_volume() == pytest.approx(28.0, rel=1e-6)


def test_a_shift_by_voxels_rolls_and_a_turn_changes_nothing() -> None:
    atoms = Atoms("CsCl", cell=[4.0, 4.3, 4.7], scaled_positions=[(0.1, 0.2, 0.3), (0.63, 0.71, 0.84)], pbc=True)
    codec = codec_for(atoms, 16)
    picture = codec.encode(atoms)
    shifted = atoms.copy()
    shifted.translate(np.array([3, -2, 5]) / 16 @ atoms.cell.array)
    assert np.abs(codec.encode(shifted)[:5] - np.roll(picture[:5], (3, -2, 5), axis=(1, 2, 3))).max() < 1e-4
    turned = atoms.copy()
    turned.rotate(41, (1, 2, 3), rotate_cell=True)
    assert np.abs(codec.encode(turned) - picture).max() < 1e-4


def test_fractions_near_one_are_fractions_near_zero() -> None:
    def atoms(x: float) -> Atoms:
        return Atoms("CsCl", cell=[4, 4, 4], scaled_positions=[(x, 0, 0), (0.5, 0.5, 0.5)], pbc=True)

    codec = codec_for(atoms(0), 16)
    assert np.abs(codec.encode(atoms(1 - 1e-9)) - codec.encode(atoms(1e-9))).max() < 1e-5


def test_peaks_are_found_between_voxels_and_across_faces() -> None:
    rng = np.random.default_rng(1)
    for centre in [*rng.uniform(0, 12, (20, 3)), np.zeros(3), np.full(3, 11.999), np.full(3, 4.5)]:
        found, heights = fit_peaks(draw_peaks(centre[None], np.ones(1), 12, 1.1), 1.1, 5)
        assert len(found) == 1
        assert periodic_distances(found / 12, centre[None] / 12).max() * 12 < 1e-6
        assert heights == pytest.approx([1.0], abs=1e-6)


@pytest.mark.parametrize("widths", [1.6, 2.0, 2.3, 3.0])
def test_peaks_that_overlap_are_told_apart(widths: float) -> None:
    rng = np.random.default_rng(2)
    for _ in range(10):
        direction = rng.normal(size=3)
        centres = rng.uniform(0, 24, (1, 3)) + np.outer([0, 1], widths * 1.25 * direction / np.linalg.norm(direction))
        found, _ = fit_peaks(draw_peaks(centres, np.ones(2), 24, 1.25), 1.25, 5)
        assert len(found) == 2
        assert periodic_distances(found / 24, centres / 24).min(axis=0).max() * 24 < 1e-4


def test_slopes_of_peaks_are_finite_differences() -> None:
    centres, step = np.array([[0.2, 3.3, 7.9]]), 1e-5
    slopes = peak_profiles(centres, 8, 1.2)[1]
    numeric = (peak_profiles(centres + step, 8, 1.2)[0] - peak_profiles(centres - step, 8, 1.2)[0]) / (2 * step)
    assert slopes == pytest.approx(numeric, abs=1e-8)


def test_every_element_is_read_back() -> None:
    elements = [e for e in chemical_symbols[1:99]]
    assert len({place_in_table(e) for e in elements}) == len(elements)
    codec = DensityVoxels(elements, points=16)
    for k in range(0, len(elements) - 1, 2):
        pair = elements[k : k + 2]
        atoms = Atoms(pair, cell=[5, 5, 5], scaled_positions=[(0, 0, 0), (0.45, 0.5, 0.55)], pbc=True)
        assert sorted(codec.decode(codec.encode(atoms)).get_chemical_symbols()) == sorted(pair)


def test_noisy_voxels_are_nearly_the_crystal(same_crystal, named_crystals) -> None:
    atoms = named_crystals["perovskite"]()
    codec = codec_for(atoms)
    picture = codec.encode(atoms)
    noise = 0.05 * np.random.default_rng(3).normal(size=picture.shape)
    assert same_crystal(atoms, codec.decode(picture + noise), 0.01)


def test_of_real_crystals_all_that_are_resolved_come_back(data_folder, same_crystal) -> None:
    crystals = read_crystals(data_folder / "crystals" / "mp_crystals_train.jsonl.gz")
    drawn = [c.atoms for c in crystals if len(c.atoms) <= 20][3::400]
    back = resolved = 0
    for atoms in drawn:
        codec = codec_for(atoms)
        try:
            picture = codec.encode(atoms)
        except CodecError:
            continue
        resolved += 1
        back += same_crystal(atoms, codec.decode(picture), 1e-4)
    assert resolved > 0.9 * len(drawn) > 20
    assert back >= 0.97 * resolved


def test_the_registry_makes_an_equal_codec() -> None:
    codec = DensityVoxels(["O", "Ti"], points=16, width=1.0, max_atoms=6, max_spacing_ang=0.5)
    other = make_codec(codec.to_dict())
    assert isinstance(other, DensityVoxels)
    assert other.to_dict() == codec.to_dict()
    assert other.shape == codec.shape == (6, 16, 16, 16)


def test_arrays_of_no_crystal() -> None:
    atoms = bulk("NaCl", "rocksalt", a=5.64)
    codec = DensityVoxels(["Na", "Cl"], points=16, max_atoms=2)
    picture = codec.encode(atoms)
    with pytest.raises(CodecError, match="reads arrays of shape"):
        codec.decode(picture[:5])
    with pytest.raises(CodecError, match="not finite"):
        codec.decode(picture * np.nan)
    without = picture.copy()
    without[1] = 0.3
    with pytest.raises(CodecError, match="no peaks"):
        codec.decode(without)
    flat = picture.copy()
    flat[5] = 0
    with pytest.raises(CodecError, match="no volume"):
        codec.decode(flat)
    crowded = picture.copy()
    crowded[1] = draw_peaks(np.array([[1.0, 1, 1], [6, 6, 6], [11, 11, 11]]), np.ones(3), 16, codec.width)
    with pytest.raises(CodecError, match="more than 2 peaks"):
        codec.decode(crowded)
    small = picture.copy()
    small[5] *= 0.1
    with pytest.raises(CodecError, match="clash"):
        codec.decode(small)


def test_what_does_not_fit() -> None:
    codec = DensityVoxels(["Si", "O", "H"], points=16, max_atoms=2, max_spacing_ang=0.5)
    with pytest.raises(CodecError, match="8 atoms do not fit"):
        codec.encode(bulk("Si", cubic=True))
    with pytest.raises(CodecError, match="Ge: not among"):
        codec.encode(bulk("Ge"))
    with pytest.raises(CodecError, match="too long for 16 voxels"):
        codec.encode(Atoms("Si", cell=[3, 3, 9], pbc=True))
    with pytest.raises(CodecError, match="do not resolve them"):
        codec.encode(Atoms("OH", positions=[[0, 0, 0], [0, 0, 0.8]], cell=[3, 3, 7.9], pbc=True))
    shared = bulk("Si")
    shared.info["occupancy"] = {"0": {"Si": 0.5, "Ge": 0.5}}
    with pytest.raises(CodecError, match="partly occupied"):
        codec.encode(shared)
    for options in ({"points": 15}, {"points": 4}, {"width": 0.1}, {"elements": ["Lr"]}, {"max_atoms": 0}):
        with pytest.raises(CodecError):
            DensityVoxels(**{"elements": ["Si"], **options})
