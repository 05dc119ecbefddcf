"""The main job: from nothing to a vetted crystal, with one potential in ASE and in LAMMPS, and a report of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from ase.data import atomic_names, atomic_numbers

from mlcalc.discovery import _demo_steps as steps
from mlcalc.discovery._demo_settings import DemoSettings
from mlcalc.discovery.funnel import FunnelResult, FunnelSettings, run_funnel
from mlcalc.discovery.report import write_report
from mlcalc.environment import machine, versions
from mlcalc.errors import MlcalcError, WorkflowError
from mlcalc.files import write_atomic
from mlcalc.generators import Constraints, make_generator
from mlcalc.potentials.grade import FAR

#: Called with (step, done, total) while the job runs, and with (step, 1, 1) when a step is over.
Progress = Callable[[str, int, int], None]


def run_demo(
    out: str | Path,
    factory: Callable[[], Any],
    *,
    calculator_name: str,
    potential: Any = None,
    settings: DemoSettings | None = None,
    progress: Progress | None = None,
) -> Path:
    """Search, relax, rank; then phonons of the best crystal, and dynamics of it in ASE and in LAMMPS.

    A run that was killed goes on where it stopped; a finished one is not repeated but started again.

    Args:
        out: folder for everything; ``report.html`` and ``report.json`` in it at the end.
        factory: builds the ASE calculator (double precision); picklable.
        calculator_name: what to call it.
        potential: the same potential for LAMMPS (name, file or ``Potential``); None leaves LAMMPS out, and says so.
        settings: how much to do.
        progress: see ``Progress``.

    Returns:
        The path of ``report.html``.

    Raises:
        WorkflowError: no candidate came through (the message counts why), or dynamics failed (the report is there).
    """
    settings = settings or DemoSettings()
    folder = Path(out).resolve()
    if potential is not None:
        import mlcalc

        potential = mlcalc.load(potential, elements=settings.elements)  # of a family, only the member needed
    tell = progress or (lambda step, done, total: None)
    timings: dict[str, float] = {}
    described = steps.describe_potential(potential)

    @contextmanager
    def timed(step: str) -> Iterator[None]:
        start = time.perf_counter()
        tell(step, 0, 1)
        yield
        timings[step] = time.perf_counter() - start
        tell(step, 1, 1)

    if (folder / "report.json").exists():
        steps.remove_earlier(folder)
    constraints = Constraints(elements=settings.elements, n_atoms=settings.n_atoms)
    with timed("search"):
        funnel = run_funnel(
            partial(make_generator("random").sample, settings.number, constraints, settings.seed),
            factory,
            folder / "search",
            settings=FunnelSettings(
                trusted_neighbors_ang=steps.trusted_neighbors(potential),
                largest_grade=FAR if potential is not None and "grade" in potential.info.outputs else None,
            ),
            description={
                "generator": "random",
                "number": settings.number,
                "constraints": constraints.to_dict(),
                "seed": settings.seed,
                "calculator": calculator_name,
                "weights_sha256": described["weights_sha256"] if described else None,
            },
            workers=settings.workers,
            progress=lambda stage, done, total: tell("search", done, total),
        )
    if not funnel.ranked:
        raise WorkflowError(
            f"no candidate came through: {_failures(funnel)}; see {folder / 'search' / 'records.jsonl'}"
        )

    calculator = factory()
    with timed("refine"):
        best = steps.Best.of(funnel.ranked[0].best.atoms, calculator, folder / "refined.json")
    with timed("phonons"):
        phonon, phonon_record = steps.phonons_of(
            best.conventional, calculator, folder / "phonons", lambda done, total: tell("phonons", done, total)
        )
    supercell = steps.supercell_for_md(best.conventional)
    parity = None
    if potential is not None:
        with timed("ASE = LAMMPS"):
            parity = steps.compare_single_points(supercell, calculator, potential, folder, settings)
    runs, problems = {}, {}
    for engine in ("ase", "lammps") if potential is not None else ("ase",):
        name = f"MD in {engine.upper()}"
        with timed(name):
            try:
                runs[engine] = steps.dynamics(
                    supercell,
                    calculator if engine == "ase" else potential,
                    engine,
                    folder / f"md_{engine}",
                    settings,
                    partial(tell, name),
                )
            except MlcalcError as error:  # a structure that does not survive is a finding; the report says so
                problems[name] = str(error)
    with timed("report"):
        md_record, rdf_curves = steps.summarise_md(runs, len(supercell), settings)
        record = {
            "title": _name(settings.elements),
            "elements": list(settings.elements),
            "calculator": calculator_name,
            "potential": described,
            "settings": asdict(settings),
            "search": funnel.to_dict(),
            "best": best.record,
            "outside_plot": steps.outside_plot(funnel),
            "verdict": steps.verdict(funnel, best.record, phonon_record),
            "phonons": phonon_record,
            "parity": parity,
            "md": md_record,
            "problems": problems,
            "versions": versions(),
            "machine": machine(),
            "started": time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(time.time() - sum(timings.values()))),
            "timings_s": timings,
            "total_s": sum(timings.values()),
        }
        write_report(folder / "report.html", record, steps.pictures(funnel, phonon, runs, rdf_curves, settings))
        write_atomic(folder / "report.json", steps.to_json(record))
    if parity is not None and not parity["agrees"]:
        problems["ASE = LAMMPS"] = "the single points differ by more than rounding"
    if problems:
        raise WorkflowError(
            "; ".join(f"{name} failed: {text}" for name, text in problems.items()) + f"; see {folder / 'report.html'}"
        )
    return folder / "report.html"


def _failures(funnel: FunnelResult) -> str:
    reasons = [f"{reason} ({len(who)})" for stage in funnel.stages for reason, who in stage.failures.items()]
    return ", ".join(reasons) or "there were none"


def _name(elements: tuple[str, ...]) -> str:
    """``Silicon``, or ``Mg–O``."""
    return atomic_names[atomic_numbers[elements[0]]] if len(elements) == 1 else "–".join(elements)
