"""The card of ``mlearn`` as Markdown, section by section."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ase.units import GPa
from crystal_properties import CubicProperties
from published import PUBLISHED

from mlcalc.potentials.base import PotentialInfo

# What teacher.py is told beyond its defaults.
TEACHER_OPTIONS = {"Si": " --teacher sevennet-l3i5 --relaxed 80"}


@dataclass(frozen=True)
class Member:
    """One element's finished run: what ``mlcalc train`` left in its folder, and what was measured beside it.

    ``config_texts`` are those of its two trainings by file name, ``cross_validation`` is what ``cross_validate.py``
    wrote for the second.
    """

    info: PotentialInfo
    weights_file: Path
    n_weights: int
    config_texts: dict[str, str]
    metrics: dict[str, Any]
    cross_validation: dict[str, Any]
    properties: CubicProperties

    @property
    def element(self) -> str:
        return self.info.elements[0]


def table(head: list[str], rows: list[list[str]], left: int = 1) -> str:
    """Return a Markdown table; columns after the first ``left`` are aligned right."""
    marks = ["---" if k < left else "---:" for k in range(len(head))]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [head, marks, *rows])


def _and(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def members_section(members: list[Member]) -> str:
    rows = []
    for m in members:
        run = m.metrics["run"]
        rows.append(
            [
                f"`{m.info.name}`",
                m.element,
                f"{m.n_weights}",
                f"{m.weights_file.stat().st_size / 1e6:.2f}",
                f"{m.info.cutoff:g}",
                f"{m.info.layers}",
                f"{m.info.min_distance:.2f}",
                f"{run['epochs']} ({run['best_epoch'] + 1})",
                f"{run['seconds'] / 3600:.2f}",
                f"{run['threads']}",
                run["torch"],
            ]
        )
    head = [
        "name",
        "element",
        "weights",
        "file, MB",
        "cutoff, Å",
        "layers",
        "closest pair in training, Å",
        "epochs (best)",
        "training, h",
        "threads",
        "torch",
    ]
    return table(head, rows, left=2)


def _pair(errors: dict[str, Any]) -> str:
    return f"{errors['energy_rmse_mev_per_atom']:.2f} \\| {errors['forces_rmse_ev_per_ang']:.4f}"


def _errors(member: Member) -> dict[str, tuple[float, float]]:
    """Return RMSE of energy (meV/atom) and force (eV/Å) by potential: ours, then those published."""
    ours = member.cross_validation["overall"]
    mine = (ours["energy_rmse_mev_per_atom"], ours["forces_rmse_ev_per_ang"])
    return {"mlearn": mine, **PUBLISHED[member.element].errors}


def _against_mtp(members: list[Member]) -> str:
    """Return one sentence: where ``mlearn`` is at or below MTP, and where not."""
    below: dict[str, list[str]] = {}
    above: dict[str, list[str]] = {}
    for m in members:
        errors = _errors(m)
        for quantity, ours, mtp in zip(("energy", "force"), errors["mlearn"], errors["MTP"], strict=True):
            (below if ours <= mtp else above).setdefault(quantity, []).append(m.element)
    where = [" and ".join(f"the {q} of {_and(e)}" for q, e in found.items()) or "nothing" for found in (below, above)]
    return f"By these numbers `mlearn` is at or below MTP for {where[0]};\nit is above MTP for {where[1]}."


def _same_frames(members: list[Member], linear: list[dict[str, Any]]) -> str:
    """Return what ``snap_errors.py`` found beside ours: errors in the same folds."""
    if not linear:
        return ""
    names = list(dict.fromkeys(found["potential"] for found in linear))
    rows = []
    for m in members:
        errors, ratios = [m.cross_validation], []
        for name in names:
            (found,) = [x for x in linear if (x["element"], x["potential"]) == (m.element, name)]
            errors.append(found)
            here = found["overall"]["energy_rmse_mev_per_atom"]
            ratios.append(f"{here / PUBLISHED[m.element].errors[name][0]:.2f}")
        cells = [f"{_pair(x['overall'])} ({x['groups']['Surface']['energy_rmse_mev_per_atom']:.1f})" for x in errors]
        rows.append([m.element, *cells, *ratios])
    head = ["", *[f"{name} (energy of slabs)" for name in ("mlearn", *names)]]
    head += [f"energy of {name}, here / published" for name in names]
    return f"""**Two of them on the same frames.** SNAP (2Jmax 8) and qSNAP (2Jmax 6) are linear, and were fitted again
in the same folds (`benchmarks/mlearn/snap_errors.py`), with the cutoff and the weight of the energies, out of 15 pairs,
that make the product of both errors on the very frames taken out smallest: what such a fit can be made to look like.
How its energy error compares with the published one says how these frames compare with the official test set:

{table(head, rows)}

"""


def _missing_folds(members: list[Member]) -> str:
    text = ""
    for m in members:
        taken, folds = len(m.cross_validation["taken"]), m.cross_validation["folds"]
        if taken < folds:
            text += f"\nFor {m.element}, {taken} of the {folds} folds below were measured.\n"
    return text


def _without_slabs(members: list[Member]) -> str:
    """Return a table of errors over all frames, over slabs, and over all but these."""
    rows = []
    for m in members:
        groups = m.cross_validation["groups"]
        kept = [errors for name, errors in groups.items() if name != "Surface"]

        def pooled(key: str, count: str, kept: list[dict[str, Any]] = kept) -> float:
            total = sum(errors[count] for errors in kept)
            return float((sum(errors[count] * errors[key] ** 2 for errors in kept) / total) ** 0.5)

        slabs, overall = groups["Surface"], m.cross_validation["overall"]
        without = (
            pooled("energy_rmse_mev_per_atom", "n_structures"),
            pooled("forces_rmse_ev_per_ang", "n_atoms"),
        )
        rows.append(
            [
                m.element,
                f"{m.cross_validation['overall']['n_structures']} ({slabs['n_structures']})",
                _pair(overall),
                _pair(slabs),
                f"{without[0]:.2f} \\| {without[1]:.4f}",
            ]
        )
    return table(["", "frames (slabs)", "all", "slabs", "without slabs"], rows)


def errors_section(members: list[Member], linear: list[dict[str, Any]]) -> str:
    rows = []
    for m in members:
        errors = _errors(m)
        best = [min(column) for column in zip(*errors.values(), strict=True)]
        cells = []
        for name, values in errors.items():
            texts = (f"{values[0]:.2f}", f"{values[1]:.{4 if name == 'mlearn' else 3}f}")
            bold = [f"**{text}**" if v == b else text for text, v, b in zip(texts, values, best, strict=True)]
            cells.append(" \\| ".join(bold))
        found = m.cross_validation["interval_95"]
        energy, force = found["energy_rmse_mev_per_atom"], found["forces_rmse_ev_per_ang"]
        interval = f"{energy[0]:.2f} – {energy[1]:.2f} \\| {force[0]:.4f} – {force[1]:.4f}"
        frames = f"{m.cross_validation['overall']['n_structures']}"
        rows.append([m.element, frames, cells[0], interval, *cells[1:]])
    folds = members[0].cross_validation["folds"]
    head = ["", "frames", "mlearn", "its 95 % intervals", *next(iter(PUBLISHED.values())).errors]
    return f"""RMSE, energy in meV/atom | force in eV/Å; the lowest of each row is bold:

{table(head, rows)}

{_against_mtp(members)}
{_missing_folds(members)}
**How `mlearn` was measured.** By cross-validation in {folds} folds (`benchmarks/mlearn/cross_validate.py`): the configs
below were trained {folds} times, each time without one fold of the frames, taken out in blocks of up to four
consecutive frames of a trajectory, and that fold was predicted. No network saw its fold, neither in training nor in
choosing the epoch (on a tenth of the rest, or with `keep: last` not at all). Where they started from, a network trained
on the energies of a SevenNet for other structures ([below](#how-it-was-trained)), is the same for all folds and saw no
DFT of this collection. The networks that ship were trained in the same way with no fold taken out, on a ninth more
frames, and have no test set of their own. The intervals are from resampled frames.

**The columns are not errors on the same frames.** `mlearn` is measured on the training files of the mlearn collection;
the other columns are the authors' own potentials on the official test split, which we do not have. How many slabs a set
holds decides its energy error: every surface of the collection occurs once, so a slab taken out is a surface that
the network has never seen, and its energy is off by several times what bulk is off by. In the last column, without
slabs:

{_without_slabs(members)}

{_same_frames(members, linear)}**What was chosen on these frames.** Architecture and settings: some 50 trial
runs on Mo and about a dozen on the other elements, most of 50 epochs or fewer, judged on a quarter, a fifth or a tenth
of the same frames, preceded the configs below. Cross-validation does not know of that; it makes the errors optimistic
by a little. The last choices were made in ten folds:

- Ni: twice as many channels (shipped); with energies weighing 500 at the end and 60 epochs instead, 1.17 | 0.0274.
- Mo: energies weighing 500 and the last epoch (shipped); 50 and the epoch that a tenth of the frames chose, 4.06 |
  0.1364; twice as many channels, 1000 and 60 epochs, 4.61 | 0.1434. A cutoff of 4.2 Å, in four folds of 82 frames,
  3.37 | 0.1412, where the shipped one has 3.41 | 0.1380.
- Si: SevenNet-l3i5 as the teacher, which relaxes slabs, too, and the last epoch (shipped); SevenNet-0 and the epoch
  that a tenth of the frames chose, 5.13 | 0.0809; as shipped with energies weighing 500, 4.35 | 0.0834; as shipped with
  the epoch that 3 % of the frames choose, one slab among them, 5.90 | 0.0839."""


def groups_section(members: list[Member]) -> str:
    rows = []
    for m in members:
        for part, errors in [("all", m.cross_validation["overall"]), *m.cross_validation["groups"].items()]:
            rows.append([m.element, part, *_error_cells(errors)])
        shipped = m.metrics
        rows.append([m.element, "validation set, as shipped", *_error_cells(shipped["validation"]["overall"])])
        rows.append([m.element, "training set, as shipped", *_error_cells(shipped["training"]["overall"])])
    text = table(
        ["", "frames", "number", "energy, meV/atom", "force, eV/Å", "stress RMSE, GPa"],
        rows,
        left=2,
    )
    for m in members:
        offset = m.metrics.get("stress_offset_ev_per_ang3")
        if offset is not None:
            text += (
                f"\n\nThe normal stresses in the labels of {m.element} disagree with its energies by a constant; "
                f"training fitted it together with the weights ({offset / GPa:+.2f} GPa). The stress errors above are "
                "against the labels as they are and therefore contain it; the potential's stress is that of its energy."
            )
    return text


def _error_cells(errors: dict[str, Any]) -> list[str]:
    return [
        f"{errors['n_structures']}",
        f"{errors['energy_rmse_mev_per_atom']:.2f} ({errors['energy_mae_mev_per_atom']:.2f})",
        f"{errors['forces_rmse_ev_per_ang']:.4f} ({errors['forces_mae_ev_per_ang']:.4f})",
        number(errors["stress_rmse_gpa"], 2),
    ]


def properties_section(found: list[CubicProperties]) -> str:
    rows = []
    for p in found:
        mtp = PUBLISHED[p.element]
        rows.append(
            [
                p.element,
                p.crystal,
                f"{p.lattice_constant_ang:.3f} ({mtp.lattice_constant_ang:.3f})",
                f"{p.c11_gpa:.0f} ({mtp.c11_gpa:.0f})",
                f"{p.c12_gpa:.0f} ({mtp.c12_gpa:.0f})",
                f"{p.c44_gpa:.0f} ({mtp.c44_gpa:.0f})",
                f"{p.c44_clamped_gpa:.0f}",
                f"{p.vacancy_ev:.2f} ({mtp.vacancy_ev:.2f})",
                f"{p.vacancy_unrelaxed_ev:.2f}",
                f"{p.vacancy_atoms - 1}",
            ]
        )
    head = [
        "",
        "crystal",
        "a, Å",
        "C11, GPa",
        "C12, GPa",
        "C44, GPa",
        "C44, ions clamped",
        "vacancy, eV",
        "unrelaxed, eV",
        "atoms",
    ]
    return table(head, rows, left=2)


def grades_section(found: dict[str, dict[str, Any]]) -> str:
    """Return the table of what ``mlcalc grade`` wrote, by element."""
    if not found:
        return "Not measured."
    rows = []
    for element, grade in found.items():
        pairs = zip(grade["grade"], grade["forces_rmse_ev_per_ang"], strict=True)
        rows.append(
            [
                element,
                *[f"{middle:.2f}: {error:.3f}" for middle, error in pairs],
                f"{grade['rank_correlation']:.2f}, {grade['rank_correlation_of_frames']:.2f}",
                f"{grade['largest_grade']:.2f}",
            ]
        )
    bins = max(len(row) for row in rows) - 3
    head = ["", *[f"bin {k + 1}" for k in range(bins)], "rank correlation: atoms, frames", "largest"]
    page = "../../../docs/potentials.md#extrapolation-grade"
    return f"""Each file carries the statistics of its training frames ([extrapolation grade]({page});
1 is the farthest in training). On the validation frames (their number is [above](#errors), and small with
`keep: last`), in eight bins of equally many atoms, median grade: force RMSE in eV/Å:

{table(head, rows)}

Command: `mlcalc grade mlearn-Si.safetensors benchmarks/mlearn/mlearn-Si.yaml`."""


def speed_section(documents: list[dict[str, Any]]) -> str:
    if not documents:
        return "Not measured."
    rows = []
    formats = all("format" in r for document in documents for r in document["results"])
    for document in documents:
        for r in document["results"]:
            rows.append(
                [
                    r["engine"],
                    *([r["format"]] if formats else []),
                    r["element"],
                    r["dtype"],
                    f"{r['atoms']}",
                    f"{r['total_ms']:.3f}",
                    *[f"{r[key + '_ms']:.4f}" for key in ("list", "edges", "model", "rest", "rebuild")],
                    f"{100 * r['cpu_share']:.0f} %",
                ]
            )
    head = [
        "engine",
        *(["format"] if formats else []),
        "",
        "dtype",
        "atoms",
        "whole step",
        "list",
        "edges",
        "model",
        "rest",
        "rebuild",
        "CPU share",
    ]
    machines = dict.fromkeys(
        f"{d['machine']['processor']}, torch {d['machine']['versions']['torch']}" for d in documents
    )
    return f"""ms per atom and step in NVE at 300 K on one thread of {"; ".join(machines)}. `list`: keeping
the neighbour list; `edges`: the graph of it; `model`: energies and gradients; `rebuild`: per new list, hardly any of
which a crystal needs. A CPU share below 100 % says that the machine was busy with something else: the times are too
long then.

{table(head, rows, left=4 if formats else 3)}"""


def drift_section(documents: list[dict[str, Any]]) -> str:
    if not documents:
        return "Not measured."
    rows = []
    for document in documents:
        s = document["settings"]
        for r in document["results"]:
            rows.append(
                [
                    s["element"],
                    r["engine"],
                    s["dtype"],
                    f"{s['atoms']}",
                    f"{s['ps']:g}",
                    f"{s['timestep']:g}",
                    f"{r['temperature_k']:.0f}",
                    f"{r['drift_ev_per_atom_per_ps']:+.1e}",
                ]
            )
    head = ["", "engine", "dtype", "atoms", "ps", "step, fs", "T, K", "drift, eV/atom/ps"]
    return table(head, rows, left=3)


def configs_section(members: list[Member]) -> str:
    return "\n\n".join(
        f"`benchmarks/mlearn/{name}`\n\n```yaml\n{text.strip()}\n```"
        for m in members
        for name, text in m.config_texts.items()
    )


def card(
    members: list[Member],
    speed: list[dict[str, Any]],
    drift: list[dict[str, Any]],
    grades: dict[str, dict[str, Any]],
    linear: list[dict[str, Any]],
) -> str:
    """Return the whole card; ``linear`` is what ``snap_errors.py`` wrote."""
    elements = [m.element for m in members]
    architectures = ", ".join(dict.fromkeys(m.metrics["architecture"] for m in members))
    steps = "\n".join(
        f"python teacher.py {e}{TEACHER_OPTIONS.get(e, '')} --out teacher-{e}.xyz && "
        f"mlcalc train start-{e}.yaml && mlcalc train mlearn-{e}.yaml"
        for e in elements
    )
    return f"""# mlearn

Potentials for pure {_and(elements)}, one network per element behind one name: a structure goes to the network of its
element, and structures that mix elements are refused. Architecture: {architectures}.

| | |
|---|---|
| energies | {members[0].info.energy_scale} |
| licence of the weights | {members[0].info.licence} |

Data: the training sets of the mlearn collection (Zuo et al., J. Phys. Chem. A 124, 731 (2020),
doi:10.1021/acs.jpca.9b08723; github.com/materialsvirtuallab/mlearn, BSD-3-Clause): molecular dynamics at several
temperatures, strained cells, surfaces and vacancies of the crystals below. Expect these numbers near such structures,
not far from them; pairs closer than any in training rest on the built-in ZBL repulsion.

{members_section(members)}

Training time is the sum of all epochs on DFT, on one thread each, with other runs on the same machine.

## Errors

{errors_section(members, linear)}

By kind of frame in cross-validation, and of the shipped networks on the frames of their own training; RMSE (MAE):

{groups_section(members)}

## Extrapolation grade

{grades_section(grades)}

## Properties

In float64, beside those of the published MTPs in brackets:

{properties_section([m.properties for m in members])}

Elastic constants are stresses under ±0.5 % strain at the potential's own lattice constant, with relaxed ions. The
vacancy relaxes in a cell of fixed size with the given number of atoms.

## Cost

{speed_section(speed)}

Command: `python benchmarks/speed/step.py --potential mlearn --element Si --json speed-Si.json`.

## Energy conservation

{drift_section(drift)}

Least-squares slope of the total energy in NVE. Command:
`python benchmarks/drift/nve.py --potential mlearn --element Si --json drift-Si.json`.

## How it was trained

In three steps for each element: crystals, slabs, vacancies, other lattices and melts, made at random, are labelled by
a SevenNet (MIT licence); a network is trained on these; and from there on the DFT of the collection. `MLCALC_DATA` is
the folder whose `potentials/` holds `mlearn_Xx_train.xyz`:

```bash
cd benchmarks/mlearn
{steps}
```

Everything the configs do not say is a default of `mlcalc train`.

{configs_section(members)}

This card was written by `benchmarks/mlearn/card.py` from the folders of the runs.
"""
