"""The funnel from candidates to a ranked list."""

from mlcalc.discovery.funnel import FunnelResult, FunnelSettings, Ranked, Stage, run_funnel

__all__ = ["FunnelResult", "FunnelSettings", "Ranked", "Stage", "run_funnel"]
