"""All optimisers, cell filters and molecular dynamics of ASE, found by introspection.

Each runs twice, with our calculator and with ASE's own Lennard-Jones, and must take the same steps.
"""

import importlib
import inspect
import pkgutil

import ase.filters
import ase.md
import ase.optimize
import numpy as np
import pytest
from analytic_potentials import LennardJonesPotential
from ase import units
from ase.build import bulk
from ase.calculators.lj import LennardJones
from ase.constraints import FixInternals
from ase.md.md import MolecularDynamics
from ase.md.switch_langevin import SwitchLangevin
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from ase.optimize.basin import BasinHopping
from ase.optimize.cellawarebfgs import CellAwareBFGS
from ase.optimize.climbfixinternals import BFGSClimbFixInternals
from ase.optimize.minimahopping import MinimaHopping
from ase.optimize.optimize import BaseDynamics, Dynamics, Optimizer
from ase.optimize.sciopt import SciPyGradientlessOptimizer, SciPyOptimizer

from mlcalc import MLCalculator

# Bases without a step of their own.
ABSTRACT = {BaseDynamics, Dynamics, Optimizer, SciPyOptimizer, SciPyGradientlessOptimizer, MolecularDynamics}


# Broken in ASE 3.29 with every calculator; test_broken_optimisers tells when they may leave this list.
BROKEN = {"oldBFGS": "scales a flat step by one number per atom"}


def discover(package, base):
    """All concrete classes derived from ``base`` in a package, by name."""
    found = {}
    for entry in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if ".test" in entry.name:  # ASE's own tests
            continue
        for cls in vars(importlib.import_module(entry.name)).values():
            if inspect.isclass(cls) and issubclass(cls, base) and cls not in ABSTRACT:
                found[cls.__name__] = cls
    return found


OPTIMISERS = discover(ase.optimize, Dynamics) | {"MinimaHopping": MinimaHopping}
DYNAMICS = discover(ase.md, BaseDynamics)
FILTERS = {
    name: cls for name, cls in vars(ase.filters).items() if inspect.isclass(cls) and issubclass(cls, ase.filters.Filter)
}


def calculator(kind):
    if kind == "mlcalc":
        return MLCalculator(LennardJonesPotential())
    return LennardJones(sigma=3.4, epsilon=0.0104, rc=7.0, ro=4.5, smooth=True)


def argon(kind, size=1):
    atoms = bulk("Ar", cubic=True, a=5.2).repeat((size, 1, 1))
    atoms.rattle(0.15, seed=4)
    atoms.calc = calculator(kind)
    return atoms


def test_discovery_finds_what_is_known():
    assert {"BFGS", "LBFGS", "FIRE", "FIRE2", "GPMin", "MDMin", "SciPyFminCG", "PreconLBFGS", "ODE12r"} <= set(
        OPTIMISERS
    )
    assert {"VelocityVerlet", "Langevin", "Bussi", "MTKNPT", "NPTBerendsen", "MelchionnaNPT"} <= set(DYNAMICS)
    assert {"Filter", "StrainFilter", "UnitCellFilter", "FrechetCellFilter", "ExpCellFilter"} <= set(FILTERS)


def optimise(cls, kind):
    """Run a few steps; return positions and energies before and after."""
    atoms = argon(kind)
    start = atoms.get_potential_energy()
    np.random.seed(7)  # noqa: NPY002 (basin and minima hopping draw from the global generator)
    if cls is BasinHopping:
        cls(atoms, temperature=100 * units.kB, fmax=0.5, dr=0.02, logfile=None, optimizer_logfile=None).run(2)
    elif cls is MinimaHopping:
        cls(atoms, T0=50.0, fmax=0.05, minima_threshold=0.5)(totalsteps=1)
    elif cls is BFGSClimbFixInternals:
        pair = [1.0, atoms.get_distance(0, 1), [0, 1]]
        atoms.set_constraint(FixInternals(bonds=[[pair[1], pair[2]]]))
        cls(atoms, logfile=None, climb_coordinate=[[*pair[2], 1.0]], optB_kwargs={"logfile": None}).run(0.01, 2)
    else:
        target = ase.filters.FrechetCellFilter(atoms, exp_cell_factor=1.0) if cls is CellAwareBFGS else atoms
        with cls(target, logfile=None) as optimiser:
            if issubclass(cls, SciPyGradientlessOptimizer):
                optimiser.fmax = 1e-3  # read at the end of ``run``, which does not set it
                optimiser.run(ftol=1e-6, xtol=1e-4, steps=40)
            else:
                optimiser.run(fmax=1e-3, steps=4)
    return atoms, start


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", sorted(set(OPTIMISERS) - set(BROKEN)))
def test_optimiser(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (ours, start), (theirs, _) = optimise(OPTIMISERS[name], "mlcalc"), optimise(OPTIMISERS[name], "ase")
    np.testing.assert_allclose(ours.positions, theirs.positions, atol=1e-6)
    assert np.abs(ours.positions - argon("ase").positions).max() > 1e-4
    if name != "BFGSClimbFixInternals":  # it climbs
        assert ours.get_potential_energy() < start


@pytest.mark.parametrize("name", sorted(BROKEN))
def test_broken_optimisers(name):
    with pytest.raises(ValueError, match="broadcast"):
        optimise(OPTIMISERS[name], "ase")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", sorted(FILTERS))
def test_cell_filter(name):
    results = []
    for kind in ("mlcalc", "ase"):
        atoms = argon(kind)
        options = {"indices": [0, 2]} if FILTERS[name] is ase.filters.Filter else {}
        start = atoms.get_potential_energy()
        with ase.optimize.BFGS(FILTERS[name](atoms, **options), logfile=None) as optimiser:
            optimiser.run(fmax=1e-4, steps=6)
        assert atoms.get_potential_energy() < start
        results.append(atoms)
    ours, theirs = results
    np.testing.assert_allclose(ours.positions, theirs.positions, atol=1e-7)
    np.testing.assert_allclose(ours.cell, theirs.cell, atol=1e-7)
    assert (FILTERS[name] is ase.filters.Filter) == np.array_equal(ours.cell, argon("ase").cell)


# Whatever a class asks for by name, it gets from here.
MD_SETTINGS = {
    "timestep": 4.0 * units.fs,
    "temperature_K": 60.0,
    "friction": 0.01 / units.fs,
    "andersen_prob": 0.1,
    "taut": 50.0 * units.fs,
    "taup": 300.0 * units.fs,
    "tdamp": 200.0 * units.fs,
    "pdamp": 400.0 * units.fs,
    "ttime": 50.0 * units.fs,
    "pfactor": 1e3,
    "pressure_au": 1e-4,
    "compressibility_au": 5.0,
    "externalstress": -1e-4,
    "T_tau": 100.0 * units.fs,
    "P_tau": 500.0 * units.fs,
}
MASKED = {"MaskedMTKNPT": (True, False, True), "Inhomogeneous_NPTBerendsen": (1, 0, 1)}


def run_dynamics(cls, kind, steps, skin=None):
    atoms = argon(kind, size=2)
    if skin is not None:
        atoms.calc = MLCalculator(LennardJonesPotential(), skin=skin)
    MaxwellBoltzmannDistribution(atoms, temperature_K=60.0, rng=np.random.RandomState(5))
    rng = np.random.RandomState(6)
    if cls is SwitchLangevin:
        other = LennardJonesPotential(epsilon=0.02)
        second = (
            MLCalculator(other)
            if kind == "mlcalc"
            else LennardJones(sigma=3.4, epsilon=0.02, rc=7.0, ro=4.5, smooth=True)
        )
        dynamics = cls(
            atoms, atoms.calc, second, 4.0 * units.fs, friction=0.01, n_eq=3, n_switch=5, temperature_K=60.0, rng=rng
        )
        dynamics.run()
        return atoms, [row[2] for row in dynamics.path_data]
    parameters = set()
    for base in cls.__mro__:  # subclasses pass on what they do not name
        if base is not object and "__init__" in vars(base):
            parameters |= set(inspect.signature(base.__init__).parameters)
    settings = {name: value for name, value in MD_SETTINGS.items() if name in parameters}
    if "rng" in parameters:
        settings["rng"] = rng
    if cls.__name__ in MASKED:
        settings["mask"] = MASKED[cls.__name__]
    energies = []
    with cls(atoms, **settings) as dynamics:
        dynamics.attach(lambda: energies.append(atoms.get_potential_energy()))
        dynamics.run(steps)
    return atoms, energies


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", sorted(DYNAMICS))
def test_dynamics(name):
    ours, energies = run_dynamics(DYNAMICS[name], "mlcalc", 8)
    theirs, expected = run_dynamics(DYNAMICS[name], "ase", 8)
    assert len(energies) == len(expected) > 4
    np.testing.assert_allclose(energies, expected, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(ours.positions, theirs.positions, atol=1e-8)
    np.testing.assert_allclose(ours.cell, theirs.cell, atol=1e-8)
    assert np.abs(ours.positions - argon("ase", size=2).positions).max() > 1e-3


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["MTKNPT", "NPTBerendsen", "MelchionnaNPT"])
def test_npt_with_a_skin_is_exact(name):
    kept, energies = run_dynamics(DYNAMICS[name], "mlcalc", 60, skin=1.0)
    fresh, expected = run_dynamics(DYNAMICS[name], "mlcalc", 60, skin=0.0)
    np.testing.assert_allclose(energies, expected, atol=1e-10)
    np.testing.assert_allclose(kept.cell, fresh.cell, atol=1e-9)
    assert not np.allclose(kept.cell, argon("ase", size=2).cell, atol=1e-3), "the cell must have moved"
    assert kept.calc.verlet.rebuilds < kept.calc.verlet.calls / 3
    assert fresh.calc.verlet.rebuilds == fresh.calc.verlet.calls
