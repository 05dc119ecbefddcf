"""Workflows that take any ASE calculator and return typed results."""

from mlcalc.workflows._elastic_moduli import (
    ElasticModuli,
    StrainMode,
    directional_young,
    elastic_moduli,
    strain_modes,
)
from mlcalc.workflows._elastic_plot import plot_elastic
from mlcalc.workflows._elastic_tensors import rotate_stiffness
from mlcalc.workflows._eos_fit import EOSFit, delta_gauge, epsilon_gauge, fit_eos
from mlcalc.workflows._eos_plot import plot_eos
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
from mlcalc.workflows._qha_plots import plot_gruneisen, plot_qha
from mlcalc.workflows._relax_plots import plot_convergence
from mlcalc.workflows._warnings import ConvergenceWarning, WorkflowWarning
from mlcalc.workflows.elasticity import ElasticResult, elastic
from mlcalc.workflows.equation_of_state import EOSResult, eos
from mlcalc.workflows.mode_gruneisen import GruneisenResult, gruneisen
from mlcalc.workflows.molecular_dynamics import MDResult, md
from mlcalc.workflows.msd import MSD, mean_squared_displacement
from mlcalc.workflows.phonon import PhononResult, phonons
from mlcalc.workflows.quasi_harmonic import QHAResult, qha
from mlcalc.workflows.rdf import RDF, radial_distribution
from mlcalc.workflows.relaxation import RelaxResult, relax

__all__ = [
    "MSD",
    "RDF",
    "Bands",
    "ConvergenceWarning",
    "EOSFit",
    "EOSResult",
    "ElasticModuli",
    "ElasticResult",
    "GruneisenResult",
    "ImaginaryMode",
    "MDResult",
    "PhononAnalysis",
    "PhononDOS",
    "PhononResult",
    "QHAResult",
    "RelaxResult",
    "StrainMode",
    "ThermalProperties",
    "WorkflowWarning",
    "analyse_phonons",
    "delta_gauge",
    "directional_young",
    "elastic",
    "elastic_moduli",
    "eos",
    "epsilon_gauge",
    "fit_eos",
    "gruneisen",
    "md",
    "mean_squared_displacement",
    "phonons",
    "plot_bands",
    "plot_convergence",
    "plot_elastic",
    "plot_eos",
    "plot_gruneisen",
    "plot_log",
    "plot_msd",
    "plot_qha",
    "plot_rdf",
    "plot_thermal",
    "qha",
    "radial_distribution",
    "relax",
    "rotate_stiffness",
    "strain_modes",
]
