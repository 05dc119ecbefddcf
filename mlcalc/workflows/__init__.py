"""Workflows that take any ASE calculator and return typed results."""

from mlcalc.workflows._records import ConvergenceWarning, WorkflowWarning
from mlcalc.workflows.molecular_dynamics import MDResult, md
from mlcalc.workflows.msd import MSD, mean_squared_displacement
from mlcalc.workflows.rdf import RDF, radial_distribution
from mlcalc.workflows.relaxation import RelaxResult, relax

__all__ = [
    "MSD",
    "RDF",
    "ConvergenceWarning",
    "MDResult",
    "RelaxResult",
    "WorkflowWarning",
    "md",
    "mean_squared_displacement",
    "radial_distribution",
    "relax",
]
