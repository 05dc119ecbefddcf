"""Workflows that take any ASE calculator and return typed results."""

from mlcalc.workflows._arrhenius import Arrhenius, fit_arrhenius
from mlcalc.workflows._check_plots import plot_check
from mlcalc.workflows._check_report import CheckItem, CheckReport
from mlcalc.workflows._check_table import NAMES as CHECK_NAMES
from mlcalc.workflows._diffusion_estimate import ElementDiffusion
from mlcalc.workflows._diffusion_plots import plot_arrhenius, plot_diffusion
from mlcalc.workflows._diffusion_trajectory import TrajectoryDiffusion, diffusion_from_trajectory
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
from mlcalc.workflows._heat_plots import plot_heat
from mlcalc.workflows._md_plots import plot_log, plot_msd, plot_rdf
from mlcalc.workflows._neb_ends import match_order
from mlcalc.workflows._neb_plots import plot_path
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
from mlcalc.workflows._relax_parts import RelaxResult
from mlcalc.workflows._relax_plots import plot_convergence
from mlcalc.workflows._warnings import ConvergenceWarning, WorkflowWarning
from mlcalc.workflows.conformance import check
from mlcalc.workflows.diffusion import DiffusionResult, diffusion
from mlcalc.workflows.elasticity import ElasticResult, elastic
from mlcalc.workflows.equation_of_state import EOSResult, eos
from mlcalc.workflows.gamma_phonon import GammaResult, gamma_phonons
from mlcalc.workflows.heat_conduction import HeatResult, heat_conduction
from mlcalc.workflows.mode_gruneisen import GruneisenResult, gruneisen
from mlcalc.workflows.molecular_dynamics import MDResult, md
from mlcalc.workflows.msd import MSD, mean_squared_displacement
from mlcalc.workflows.nudged_elastic_band import NEBResult, neb
from mlcalc.workflows.phonon import PhononResult, phonons
from mlcalc.workflows.quasi_harmonic import QHAResult, qha
from mlcalc.workflows.rdf import RDF, radial_distribution
from mlcalc.workflows.relax_lists import relax_many
from mlcalc.workflows.relaxation import relax

__all__ = [
    "CHECK_NAMES",
    "MSD",
    "RDF",
    "Arrhenius",
    "Bands",
    "CheckItem",
    "CheckReport",
    "ConvergenceWarning",
    "DiffusionResult",
    "EOSFit",
    "EOSResult",
    "ElasticModuli",
    "ElasticResult",
    "ElementDiffusion",
    "GammaResult",
    "GruneisenResult",
    "HeatResult",
    "ImaginaryMode",
    "MDResult",
    "NEBResult",
    "PhononAnalysis",
    "PhononDOS",
    "PhononResult",
    "QHAResult",
    "RelaxResult",
    "StrainMode",
    "ThermalProperties",
    "TrajectoryDiffusion",
    "WorkflowWarning",
    "analyse_phonons",
    "check",
    "delta_gauge",
    "diffusion",
    "diffusion_from_trajectory",
    "directional_young",
    "elastic",
    "elastic_moduli",
    "eos",
    "epsilon_gauge",
    "fit_arrhenius",
    "fit_eos",
    "gamma_phonons",
    "gruneisen",
    "heat_conduction",
    "match_order",
    "md",
    "mean_squared_displacement",
    "neb",
    "phonons",
    "plot_arrhenius",
    "plot_bands",
    "plot_check",
    "plot_convergence",
    "plot_diffusion",
    "plot_elastic",
    "plot_eos",
    "plot_gruneisen",
    "plot_heat",
    "plot_log",
    "plot_msd",
    "plot_path",
    "plot_qha",
    "plot_rdf",
    "plot_thermal",
    "qha",
    "radial_distribution",
    "relax",
    "relax_many",
    "rotate_stiffness",
    "strain_modes",
]
