"""Workflows that take any ASE calculator and return typed results."""

from mlcalc.workflows._records import ConvergenceWarning, WorkflowWarning
from mlcalc.workflows.relaxation import RelaxResult, relax

__all__ = ["ConvergenceWarning", "RelaxResult", "WorkflowWarning", "relax"]
