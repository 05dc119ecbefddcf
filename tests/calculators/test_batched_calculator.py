"""Many structures in one evaluation: the numbers of the ASE calculator, sizes of batches, running out of memory."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from analytic_potentials import AngularPotential, LennardJonesPotential
from ase import Atoms
from ase.build import bulk, fcc111

from mlcalc.calculators import BatchedCalculator, BatchedResult, MLCalculator
from mlcalc.calculators._batch_size import FIRST, BatchSize
from mlcalc.errors import (
    ExtrapolationWarning,
    MlcalcError,
    OutOfMemoryError,
    OverlapError,
    SettingsError,
    UnknownElementError,
)
from mlcalc.potentials.base import PotentialInfo
from mlcalc.potentials.registry import build
from mlcalc.workflows import WorkflowWarning, relax


def structures() -> list[Atoms]:
    """Crystals, a slab, a molecule, one atom, a needle."""
    sliver = Atoms("Ni", cell=[[3.5, 0, 0], [14.0, 3.5, 0], [10.0, 7.0, 3.5]], pbc=True)
    found = [bulk("Si", cubic=True), fcc111("Ni", (2, 1, 2), vacuum=5.0), sliver, bulk("Mo").repeat((3, 1, 1))]
    found += [Atoms("Si3", positions=[[0, 0, 0], [2.3, 0, 0], [0, 2.4, 0]]), Atoms("Li"), bulk("Li", cubic=True)]
    for seed, atoms in enumerate(found):
        atoms.rattle(0.05, seed=seed)
    return found


def compare(found: list[BatchedResult], given: list[Atoms], calculator: MLCalculator) -> None:
    assert len(found) == len(given)
    for result, original in zip(found, given, strict=True):
        atoms = original.copy()
        atoms.calc = calculator
        assert result.error is None
        assert result.energy_ev == pytest.approx(atoms.get_potential_energy(), abs=1e-10)
        np.testing.assert_allclose(result.energies_ev, atoms.get_potential_energies(), atol=1e-10)
        np.testing.assert_allclose(result.forces_ev_per_ang, atoms.get_forces(), atol=1e-10)
        if atoms.pbc.all():
            np.testing.assert_allclose(result.stress_ev_per_ang3, atoms.get_stress(), atol=1e-11)
        else:
            assert result.stress_ev_per_ang3 is None
        if result.extrapolation_grades is not None:
            grades = calculator.get_property("extrapolation_grades", atoms)
            np.testing.assert_allclose(result.extrapolation_grades, grades, atol=1e-6)


@pytest.mark.parametrize("max_edges", [None, 1, 150])
def test_numbers_are_those_of_the_ase_calculator(max_edges: int | None) -> None:
    calculator = BatchedCalculator("mlearn", max_edges=max_edges, grade_warn=None)
    found = calculator.compute(structures())
    compare(found, structures(), MLCalculator("mlearn", dtype="float64", grade_warn=None))
    assert found[0].extrapolation_grades is not None
    energies = calculator.compute(structures(), forces=False)
    assert [item.energy_ev for item in energies] == pytest.approx([item.energy_ev for item in found], abs=1e-10)
    assert energies[0].forces_ev_per_ang is energies[0].stress_ev_per_ang3 is None


def test_tables_and_inputs_of_each_structure_reach_the_potential() -> None:
    given = [bulk("Si", cubic=True), Atoms("SiC", [[0, 0, 0], [0, 0.1, 1.8]])]
    given.append(bulk("SiC", "zincblende", a=4.4))
    for charge, atoms in enumerate(given):
        atoms.rattle(0.1, seed=charge)
        atoms.info["total_charge"] = 2.0 * charge - 1.0
    compare(BatchedCalculator(AngularPotential()).compute(given), given, MLCalculator(AngularPotential()))
    del given[1].info["total_charge"]
    with pytest.raises(MlcalcError, match=r"structure 1: the potential needs 'total_charge'"):
        BatchedCalculator(AngularPotential()).compute(given)


def test_committees_give_means_over_members_of_different_range() -> None:
    members = [LennardJonesPotential(("Si", "Ni"), sigma=2.0, rc=rc, ro=4.0) for rc in (5.0, 7.0)]
    given = [atoms for atoms in structures() if set(atoms.symbols) <= {"Si", "Ni"}]
    compare(BatchedCalculator(members).compute(given), given, MLCalculator(members))


def test_of_shares_the_potentials_of_an_ase_calculator() -> None:
    single = MLCalculator("mlearn", dtype="float32", skin=0.3)
    made = BatchedCalculator.of(single)
    assert made.potentials is single.potentials
    assert made.skin == 0.3
    assert made.parameters == single.parameters
    energy = made.compute([bulk("Si")])[0].energy_ev
    assert energy == pytest.approx(single.get_potential_energy(bulk("Si")), abs=1e-5)


def test_errors_are_raised_with_the_number_or_kept() -> None:
    overlap = bulk("Si")
    overlap.positions[1] = overlap.positions[0]
    given = [bulk("Si"), bulk("Cu"), overlap, bulk("Mo")]
    calculator = BatchedCalculator("mlearn")
    with pytest.raises(UnknownElementError, match=r"structure 1: the potential does not know Cu"):
        calculator.compute(given)
    with pytest.raises(OverlapError, match=r"structure 1: .*atoms 0 and 1"):
        calculator.compute([given[0], overlap])
    found = calculator.compute(given, strict=False)
    assert [item.error is None for item in found] == [True, False, False, True]
    assert found[1].error.startswith("UnknownElementError: ")
    assert np.isnan(found[2].energy_ev)
    assert found[3].energy_ev == calculator.compute([bulk("Mo")])[0].energy_ev
    assert calculator.compute([]) == []
    assert found[2].to_dict()["energy_ev"] is None
    with pytest.raises(SettingsError, match=r"structure 0 is no ase\.Atoms but str"):
        calculator.compute(["Si.cif"])
    for options in ({"skin": -1.0}, {"max_edges": 0}, {"dtype": "float16"}):
        with pytest.raises(SettingsError):
            BatchedCalculator("mlearn", **options)


def test_extrapolation_is_told_once_with_the_numbers() -> None:
    squeezed = bulk("Si", a=4.0)
    with pytest.warns(ExtrapolationWarning) as told:
        BatchedCalculator("mlearn").compute([bulk("Si"), squeezed, bulk("Mo"), squeezed])
    texts = [str(item.message) for item in told]
    assert any("grades above 1.5" in text and "structures 1, 3" in text for text in texts)
    assert len(texts) <= 2


class Hungry(LennardJonesPotential):
    """Runs out of memory above a number of edges, as a potential on a GPU does."""

    def __init__(self, most: int) -> None:
        super().__init__(("Si", "Ni", "Mo", "Li"), sigma=2.2, epsilon=0.5, rc=5.0, ro=4.0)
        self.most = most
        self.asked: list[int] = []

    def forward(self, species, edge_index, edge_vectors, extra=None):
        self.asked.append(edge_index.shape[1])
        if edge_index.shape[1] > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB (a test)")
        return super().forward(species, edge_index, edge_vectors, extra)


def test_running_out_of_memory_halves_the_batch_and_is_remembered() -> None:
    given = [atoms for atoms in structures() if atoms.pbc.all()] * 6
    calculator = BatchedCalculator(Hungry(1500))
    potential = calculator.potentials[0]
    compare(calculator.compute(given), given, MLCalculator(Hungry(10**9)))
    refused = [edges for edges in potential.asked if edges > 1500]
    assert refused
    assert calculator.edges_at_once <= 1500
    potential.asked.clear()
    compare(calculator.compute(given), given, MLCalculator(Hungry(10**9)))
    assert max(potential.asked) <= 1500  # asked no more for what did not fit
    assert len(potential.asked) < len(given)


def test_relaxations_survive_running_out_of_memory() -> None:
    given = [atoms for atoms in structures() if atoms.pbc.all()] * 4
    options = {"optimizer": "FIRE", "max_steps": 15, "fmax": 1e-4, "cell": "full"}
    with pytest.warns(WorkflowWarning):
        found = relax(given, BatchedCalculator(Hungry(1500)), **options)
    with pytest.warns(WorkflowWarning):
        plenty = relax(given, BatchedCalculator(Hungry(10**9)), **options)
    for a, b in zip(found, plenty, strict=True):
        assert (a.steps, a.error) == (b.steps, None)
        assert a.energy_ev == pytest.approx(b.energy_ev, abs=1e-9)


def test_what_does_not_fit_even_alone_is_told() -> None:
    large = bulk("Si", cubic=True).repeat(2)
    given = [bulk("Si"), large, bulk("Mo")]
    found = BatchedCalculator(Hungry(1500)).compute(given, strict=False)
    assert [item.error is None for item in found] == [True, False, True]
    with pytest.raises(OutOfMemoryError, match=r"structure 1: memory ran out on cpu for \d+ edges of one structure"):
        BatchedCalculator(Hungry(1500)).compute(given)


REAL = """
import resource, numpy as np, torch
torch.set_num_threads(1)
from ase.build import bulk
from mlcalc.calculators import BatchedCalculator
calculator = BatchedCalculator("{weights}", max_edges=10**7)
few = [bulk("Si", cubic=True).repeat(2)]
calculator.compute(few)
pages = int(open("/proc/self/statm").read().split()[0])
limit = pages * resource.getpagesize() + {spare}
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
found = calculator.compute(few * 60, strict=False)
print(calculator.edges_at_once, sum(item.error is not None for item in found), np.ptp([i.energy_ev for i in found]))
"""


def test_a_real_limit_of_memory_is_survived(tmp_path) -> None:
    """The operating system refuses memory to torch on the processor: the batch is halved until it fits."""
    from mlcalc.deploy import save_weights

    torch.manual_seed(0)
    info = PotentialInfo(elements=("Si",), cutoff=5.0, layers=2, name="wide")
    config = {"architecture": "schnet", "network": {"layers": 2, "channels": 64}, "zbl": False}
    save_weights(build(config, info, torch.float64), tmp_path / "wide.safetensors")
    code = REAL.format(weights=tmp_path / "wide.safetensors", spare=400 * 2**20)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    edges, failed, spread = done.stdout.split()
    assert 100 < int(edges) < 10**6
    assert failed == "0"
    assert float(spread) < 1e-9


def test_sizes_grow_while_that_makes_an_edge_cheaper() -> None:
    size = BatchSize(None, torch.device("cpu"))
    while not size._settled:
        edges = size.limit
        for noise in (1.3, 1.0, 1.7):
            size.record(edges, noise * (1e-3 + 1e-7 * edges + 1e-13 * edges**2))
    # The derivative of time per edge vanishes at sqrt(1e-3 / 1e-13) = 1e5; doubling stops when it gains less than 5 %.
    assert 2 * FIRST <= size.limit <= 2 * 10**5
    size.record(size.limit, 1e-9)
    before = size.limit
    size.halve(before)
    assert size.limit == before // 2
    fixed = BatchSize(777, torch.device("cpu"))
    fixed.record(777, 1.0)
    assert fixed.limit == 777


def test_sizes_follow_the_memory_of_an_accelerator() -> None:
    size = BatchSize(None, torch.device("cpu"))
    size.record_memory(edges=10_000, peak_bytes=1e8, free_bytes=1e9)  # 10 kB an edge: 80 % of the free are 80 000
    assert size.limit == pytest.approx(4 * FIRST)  # but four times what was seen at most
    size.record_memory(edges=size.limit, peak_bytes=1e4 * size.limit, free_bytes=1e9)
    assert size.limit == 80_000
    size.halve(70_000)
    assert size.limit == 35_000
    size.record_memory(edges=35_000, peak_bytes=1e4 * 35_000, free_bytes=1e9)
    assert size.limit == 35_000  # what did not fit once is not tried again


class Broken(LennardJonesPotential):
    """Fails on any structure with molybdenum."""

    def forward(self, species, edge_index, edge_vectors, extra=None):
        if (species == 2).any():
            raise RuntimeError("a bug in the potential")
        return super().forward(species, edge_index, edge_vectors, extra)


def test_a_potential_that_fails_on_one_structure_spares_the_others() -> None:
    broken = Broken(("Si", "Ni", "Mo", "Li"), sigma=2.2, rc=5.0, ro=4.0)
    found = BatchedCalculator(broken).compute(structures(), strict=False)
    wrong = [item.error for item in found if item.error is not None]
    assert wrong == ["MlcalcError: the potential failed on the structure: RuntimeError: a bug in the potential"]
    assert found[3].error is not None
