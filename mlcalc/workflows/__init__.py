"""Workflows that take any ASE calculator and return typed results."""

from mlcalc.workflows._check_plots import plot_check
from mlcalc.workflows._check_report import CheckItem, CheckReport
from mlcalc.workflows._check_table import NAMES as CHECK_NAMES
from mlcalc.workflows._md_plots import plot_log, plot_msd, plot_rdf
from mlcalc.workflows._phonon_analysis import (
    Bands,
    ImaginaryMode,
    PhononAnalysis,
    PhononDOS,
    ThermalProperties,
    analyse_phonons,
)
from mlcalc.workflows._phonon_plots import plot_bands, plot_thermal
from mlcalc.workflows._relax_plots import plot_convergence
from mlcalc.workflows._warnings import ConvergenceWarning, WorkflowWarning
from mlcalc.workflows.conformance import check
from mlcalc.workflows.molecular_dynamics import MDResult, md
from mlcalc.workflows.msd import MSD, mean_squared_displacement
from mlcalc.workflows.phonon import PhononResult, phonons
from mlcalc.workflows.rdf import RDF, radial_distribution
from mlcalc.workflows.relaxation import RelaxResult, relax

__all__ = [
    "CHECK_NAMES",
    "MSD",
    "RDF",
    "Bands",
    "CheckItem",
    "CheckReport",
    "ConvergenceWarning",
    "ImaginaryMode",
    "MDResult",
    "PhononAnalysis",
    "PhononDOS",
    "PhononResult",
    "RelaxResult",
    "ThermalProperties",
    "WorkflowWarning",
    "analyse_phonons",
    "check",
    "md",
    "mean_squared_displacement",
    "phonons",
    "plot_bands",
    "plot_check",
    "plot_convergence",
    "plot_log",
    "plot_msd",
    "plot_rdf",
    "plot_thermal",
    "radial_distribution",
    "relax",
]
