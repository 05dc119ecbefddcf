"""``report.html`` of a campaign: one file with everything in it, nothing from the network."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlcalc.discovery._campaign_gallery import gallery
from mlcalc.discovery._crystal_page import crystal_data, crystal_story, element_looks
from mlcalc.discovery._hull_diagram import hull_diagram
from mlcalc.discovery.report import asset, page_json, policy, render
from mlcalc.environment import machine, versions
from mlcalc.files import write_atomic

if TYPE_CHECKING:
    from mlcalc.discovery._campaign_result import CampaignResult, Gathered
    from mlcalc.generators import Provenance

#: Crystals whose structure is in the page; the others are in ``ranked.extxyz``.
STRUCTURES = 100
#: Candidates that are named for one reason, and candidates in the list of all.
NAMED, LISTED = 200, 5000
_SCRIPTS = ("table.js", "viewer.js", "campaign.js")


def write_page(
    folder: Path,
    result: CampaignResult,
    gathered: Gathered,
    provenances: Sequence[Provenance],
    description: dict[str, Any],
    command: str | None,
) -> None:
    """Write ``report.html`` of a campaign.

    Args:
        folder: of the campaign, with the dynamics and what else its stages left there.
        result: what was found.
        gathered: candidates and records.
        provenances: of the candidates, in their order.
        description: what the campaign is.
        command: that goes on with it; None if it was no command.
    """
    shown = result.ranked[:STRUCTURES]
    symprec = result.settings.relaxation.symprec
    data = {
        "elements": element_looks(sorted({s for c in shown for s in c.atoms.get_chemical_symbols()})),
        "name": "-".join(result.references.elements),
        "crystals": {str(crystal.rank): crystal_data(crystal, symprec) for crystal in shown},
    }
    scripts = [asset(name) for name in _SCRIPTS]
    values = {
        "result": result,
        "stories": {crystal.rank: crystal_story(crystal, gathered, folder) for crystal in shown},
        "hull": hull_diagram(result),
        "gallery": gallery(result),
        "about": _about(result, provenances, description),
        "failures": _failures(result, gathered, provenances),
        "candidates": _candidates(result, gathered, provenances)[:LISTED],
        "named": NAMED,
        "description": {key: _words(value) for key, value in description.items()},
        "settings": {key: _words(value) for key, value in result.settings.flat().items()},
        "command": command,
        "versions": versions(),
        "machine": machine(),
        "data": page_json(data),
        "scripts": scripts,
        "policy": policy(scripts),
    }
    write_atomic(folder / "report.html", render("campaign.html.j2", values))


def _words(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _about(result: CampaignResult, provenances: Sequence[Provenance], description: dict[str, Any]) -> dict[str, Any]:
    """Return what the head of the page says."""
    limit = result.settings.above_hull_ev_per_atom
    near = [c for c in result.ranked if (c.energy_above_hull_ev_per_atom or 0.0) <= limit]
    placed = [c for c in near if c.energy_above_hull_ev_per_atom is not None]
    return {
        "generators": Counter(p.generator for p in provenances),
        "potential": description.get("calculator") or result.references.scale.source,
        "near": len(placed),
        "new": sum(not c.known_as for c in placed),
        "held": sum(bool(c.held_in_dynamics) for c in result.ranked),
        "stable": sum(bool(c.dynamically_stable) for c in result.ranked),
        "seconds": sum(cost.get("wall_time_s", 0.0) for cost in result.cost.values()),
    }


def _failures(
    result: CampaignResult, gathered: Gathered, provenances: Sequence[Provenance]
) -> list[tuple[str, str, int, list[dict[str, Any]]]]:
    """Return stage, reason, count and the first candidates with what is known about each."""
    ranks = {member: crystal.rank for crystal in result.ranked for member in crystal.members}
    groups = []
    for stage in result.stages:
        for reason, who in stage.failures.items():
            rows = []
            for index in who[:NAMED]:
                record = gathered.of(stage.name).get(index, {})
                told = record.get("message") or ""
                if "same_as" in record:
                    told = f"the same as candidate {record['same_as']}"
                elif stage.name == "unique after relaxation" and index in ranks:
                    told = f"ended as crystal {ranks[index]}"
                rows.append({**_origin(index, gathered, provenances), "told": told})
            groups.append((stage.name, reason, len(who), rows))
    return groups


def _candidates(result: CampaignResult, gathered: Gathered, provenances: Sequence[Provenance]) -> list[dict[str, Any]]:
    ranks = {member: crystal.rank for crystal in result.ranked for member in crystal.members}
    rows = []
    for index in range(len(gathered.pool)):
        stage, record = gathered.reached(index)
        end = "ok" if record["status"] == "ok" else record["reason"]
        row = {"stage": stage, "end": end, "rank": ranks.get(index)}
        rows.append({**_origin(index, gathered, provenances), **row})
    return rows


def _origin(index: int, gathered: Gathered, provenances: Sequence[Provenance]) -> dict[str, Any]:
    provenance = provenances[index]
    return {
        "index": index,
        "formula": gathered.pool[index].get_chemical_formula(),
        "generator": provenance.generator,
        "seed": provenance.seed,
        "position": provenance.index,
    }
