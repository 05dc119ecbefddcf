"""Warnings of workflows, with a name."""

from __future__ import annotations


class WorkflowWarning(UserWarning):
    """A workflow finished, but its result should not be trusted as it stands."""


class ConvergenceWarning(WorkflowWarning):
    """A search stopped before it met its criterion."""
