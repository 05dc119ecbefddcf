import pytest
import torch
from ase import Atoms
from ase.build import bulk

from mlcalc.errors import UnknownElementError
from mlcalc.graphs import build_graph, collate
from mlcalc.graphs.graph import Graph
from mlcalc.potentials import NeuralPotential, PerElement, Potential, PotentialInfo, build

F64 = torch.float64


def member(
    *elements: str, cutoff: float = 4.0, layers: int = 2, channels: int = 8, dtype: torch.dtype = F64
) -> NeuralPotential:
    torch.manual_seed(sum(map(ord, "".join(elements))))
    config = {"architecture": "schnet", "network": {"layers": layers, "channels": channels, "n_radial": 8}, "zbl": True}
    info = PotentialInfo(elements=elements, cutoff=cutoff, layers=layers, name="-".join(elements))
    potential = build(config, info, dtype)
    potential.set_energies([-1.0 - n for n in range(len(elements))], 0.5)
    return potential


@pytest.fixture(scope="module")
def joined() -> PerElement:
    return PerElement([member("Ni", cutoff=3.5), member("Li"), member("Si", "C", cutoff=5.0)], "family")


def cell(symbol: str) -> Atoms:
    atoms = bulk("SiC", "zincblende", a=4.3) * (2, 1, 1) if symbol == "SiC" else bulk(symbol, cubic=True)
    atoms.rattle(0.1, seed=3)
    return atoms


def run(potential: Potential | torch.jit.ScriptModule, graph: Graph) -> torch.Tensor:
    return potential(graph.species, graph.edge_index, graph.edge_vectors, {"batch": graph.batch})


def test_declares_the_sets(joined: PerElement) -> None:
    assert joined.info.elements == ("Ni", "Li", "Si", "C")
    assert joined.info.element_sets == (("Ni",), ("Li",), ("Si", "C"))
    assert joined.info.cutoff == 5.0
    assert joined.info.layers == 2
    assert joined.exchange_width == 8


@pytest.mark.parametrize("n", [0, 1, 2])
def test_each_structure_gets_its_member(joined: PerElement, n: int) -> None:
    part = joined.parts()[n]
    atoms = cell(["Ni", "Li", "SiC"][n])
    alone = build_graph(atoms, part.info.elements, part.info.cutoff)
    whole = build_graph(atoms, joined.info.elements, joined.info.cutoff)
    expected = run(part, alone)
    torch.testing.assert_close(run(joined, whole), expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(run(torch.jit.script(joined), whole), expected, rtol=0, atol=1e-12)


def test_batch_of_different_structures(joined: PerElement) -> None:
    graphs = [build_graph(cell(s), joined.info.elements, 5.0) for s in ("SiC", "Ni", "Li", "Ni")]
    batch = collate(graphs)
    expected = torch.cat([run(joined, graph) for graph in graphs])
    torch.testing.assert_close(run(joined, batch), expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(run(torch.jit.script(joined), batch), expected, rtol=0, atol=1e-12)
    vectors = batch.edge_vectors.requires_grad_(True)
    (gradient,) = torch.autograd.grad(run(joined, batch).sum(), vectors)
    parts = []
    for graph in graphs:
        v = graph.edge_vectors.requires_grad_(True)
        parts.append(torch.autograd.grad(run(joined, graph).sum(), v)[0])
    torch.testing.assert_close(gradient, torch.cat(parts), rtol=0, atol=1e-12)


def test_owned_atoms_of_several_sets() -> None:
    joined = PerElement([member("Ni", layers=1), member("Si", layers=1, cutoff=5.0)])
    batch = collate([build_graph(cell(s), joined.info.elements, 5.0) for s in ("Si", "Ni")])
    n = batch.n_atoms - 2  # the last two nickel atoms are ghosts
    keep = batch.edge_index[0] < n
    owned = {"owned": torch.arange(n)}
    args = (batch.species, batch.edge_index[:, keep], batch.edge_vectors[keep], owned)
    for potential in (joined, torch.jit.script(joined)):
        torch.testing.assert_close(potential(*args), run(joined, batch)[:n], rtol=0, atol=1e-12)


def test_mixed_structure_is_refused(joined: PerElement) -> None:
    atoms = Atoms("NiLi", positions=[[0, 0, 0], [2.2, 0, 0]])
    graph = build_graph(atoms, joined.info.elements, 5.0)
    with pytest.raises(UnknownElementError, match=r"Ni \| Li \| Si C"):
        run(joined, graph)
    with pytest.raises(torch.jit.Error, match=r"Ni \| Li \| Si C"):
        run(torch.jit.script(joined), graph)


def test_empty_rank_makes_the_exchanges_of_the_others(joined: PerElement, monkeypatch: pytest.MonkeyPatch) -> None:
    import mlcalc.potentials.schnet as schnet

    widths: list[int] = []

    def spy(features: torch.Tensor) -> torch.Tensor:
        widths.append(features.shape[1])
        return features

    monkeypatch.setattr(schnet, "exchange", spy)
    calls = []
    for atoms in (Atoms(), cell("Ni"), cell("SiC")):
        widths.clear()
        energies = run(joined, build_graph(atoms, joined.info.elements, 5.0))
        assert energies.shape == (len(atoms),)
        calls.append(list(widths))
    assert calls == [[8]] * 3


def test_unequal_members_work_here_but_not_on_many_ranks() -> None:
    assert PerElement([member("Ni"), member("Li", channels=4)]).exchange_width == -1
    assert PerElement([member("Ni"), member("Li", layers=3)]).exchange_width == -1


def test_members_that_cannot_be_joined() -> None:
    with pytest.raises(ValueError, match="more than one potential for Ni"):
        PerElement([member("Ni"), member("Ni", "Li")])
    with pytest.raises(ValueError, match="no potentials"):
        PerElement([])
    with pytest.raises(ValueError, match="join its members"):
        PerElement([PerElement([member("Ni"), member("Li")])])
    with pytest.raises(ValueError, match="dtype"):
        PerElement([member("Ni"), member("Li", dtype=torch.float32)])
