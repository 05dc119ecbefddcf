"""From candidates to ranked crystals: the funnel, the campaign, the hull they are judged by."""

from mlcalc.discovery.campaign import CampaignResult, CampaignSettings, run_campaign
from mlcalc.discovery.formation import ElementCorrections, fit_corrections, read_formation_energies
from mlcalc.discovery.funnel import FunnelResult, FunnelSettings, Ranked, Stage, run_funnel
from mlcalc.discovery.hull import Hull, Phase
from mlcalc.discovery.identity import EnergyScale, energy_scale
from mlcalc.discovery.novelty import Novelty, judge_novelty
from mlcalc.discovery.references import References, ReferenceSettings, ReferenceStructure, make_references

__all__ = [
    "CampaignResult",
    "CampaignSettings",
    "ElementCorrections",
    "EnergyScale",
    "FunnelResult",
    "FunnelSettings",
    "Hull",
    "Novelty",
    "Phase",
    "Ranked",
    "ReferenceSettings",
    "ReferenceStructure",
    "References",
    "Stage",
    "energy_scale",
    "fit_corrections",
    "judge_novelty",
    "make_references",
    "read_formation_energies",
    "run_campaign",
    "run_funnel",
]
