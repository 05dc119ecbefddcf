"""Options that several commands have, with one help text each; defaults stay with the commands."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

SymprecOption = Annotated[float, typer.Option(help="Tolerance of the symmetry search, Å.")]
OptimizerOption = Annotated[str, typer.Option(help="Name in ase.optimize.")]
MaxStepsOption = Annotated[int, typer.Option(help="Of each relaxation.")]
RelaxFirstOption = Annotated[
    bool, typer.Option("--relax", help="Relax positions and cell first, symmetry kept, tightly.")
]
RelaxIonsOption = Annotated[
    Optional[bool], typer.Option(help="At each volume. Default: where symmetry leaves coordinates free.")
]
RelaxShapeOption = Annotated[bool, typer.Option(help="Relax the shape of the cell at each volume.")]
VolumeFmaxOption = Annotated[float, typer.Option(help="Of these relaxations, eV/Å.")]
ShapeStressOption = Annotated[float, typer.Option(help="Of the shape, GPa.")]
MinLengthOption = Annotated[float, typer.Option(help="Smallest height of the supercell, Å.")]
DisplacementOption = Annotated[float, typer.Option(help="Displacement, Å.")]
ImaginaryOption = Annotated[float, typer.Option(help="Modes below minus this are imaginary.")]
MeshOption = Annotated[str, typer.Option(help="q-points along each axis.")]
PrimitiveMatrixOption = Annotated[str, typer.Option(help="phonopy's: auto, P, F, I, A, C or R.")]
ForceToleranceOption = Annotated[float, typer.Option(help="Forces above this: not relaxed, eV/Å.")]
TimestepOption = Annotated[float, typer.Option(help="Time step, fs.")]
TauOption = Annotated[float, typer.Option(help="Time constant of the thermostat, fs.")]
SeedOption = Annotated[int, typer.Option(help="Of momenta and thermostat.", min=0)]
EngineOption = Annotated[str, typer.Option(help="ase or lammps.")]
RanksOption = Annotated[int, typer.Option(help="MPI ranks of LAMMPS.")]
TrajectoryIntervalOption = Annotated[int, typer.Option(help="Steps between frames.")]
CheckpointIntervalOption = Annotated[int, typer.Option(help="Steps between checkpoints.")]
SupercellOption = Annotated[Optional[str], typer.Option(help="E.g. '3 3 3'; default: from --min-length.")]
RepeatOption = Annotated[Optional[str], typer.Option(help="Repeat the structure first, e.g. '3 3 3'.")]
