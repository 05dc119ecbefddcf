"""The benchmark of generators as a Markdown page and a plot."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mlcalc.discovery._benchmark_judge import SourceResult
from mlcalc.discovery._benchmark_statistics import Interval
from mlcalc.discovery.benchmark import BenchmarkResult
from mlcalc.figures import new_figure, save_figure
from mlcalc.files import write_atomic
from mlcalc.records import write_json

_TITLES = {
    "generated": "generated",
    "converged": "relaxed",
    "valid_structure": "distances",
    "charge_balanced": "charges",
    "valid": "both",
    "unique": "unique",
    "novel": "novel",
    "unique_novel": "unique, novel",
    "symmetric": "not P1",
    "stable": "stable",
    "stable_unique_novel": "stable, unique, novel",
    "metastable": "metastable",
    "metastable_unique_novel": "metastable, unique, novel",
    "metastable_unique_novel_covered": "of them, in systems of the hull",
    "covered": "relaxed, in systems of the hull",
}


def write_benchmark(result: BenchmarkResult, folder: Path) -> list[Path]:
    """Write ``benchmark.json``, ``benchmark.md`` and ``benchmark.png``; return their paths."""
    paths = [folder / f"benchmark.{ending}" for ending in ("json", "md", "png")]
    write_json(paths[0], result)
    write_atomic(paths[1], markdown(result))
    plot_benchmark(result, paths[2])
    return paths


def markdown(result: BenchmarkResult) -> str:
    """Return the tables: shares in %, with 95 % intervals; everything asked for is in the denominator."""
    rows = result.rows
    asked = ", ".join(f"{row.name}: {row.asked}" for row in rows)
    parts = [
        "# Benchmark of generators",
        f"Shares of the crystals asked for ({asked}) in %, with 95 % intervals. Failures are in the denominator.",
        "## As generated",
        _shares([row.before for row in rows], rows),
    ]
    if rows[0].after:
        parts += ["## After relaxation", _shares([row.after for row in rows], rows)]
        parts += ["What relaxation changed, medians over what was relaxed:", _relaxations(rows)]
    if result.hull is not None:
        parts += [result.hull.sentence()]
    if rows[0].rankings:
        parts += [
            "## Ranked before relaxation",
            "Successes in % of the relaxations spent: relaxed, unique, novel"
            + (", metastable" if result.hull is not None else "")
            + ". Factor: over relaxing all.",
            _rankings(rows),
        ]
    if any(row.match_before for row in rows):
        parts += ["## Targets found", _matches(rows)]
    parts += [
        "## Distance from the training set",
        "Total variation (`tv`, 0 to 1) and Wasserstein distances (`w`). The row of the training set is a sample of "
        "the same size: what is not above it is noise.",
        _distances(rows),
        "## Cost",
        _costs(rows),
        "## Failures",
        "\n".join(f"- {row.name}, {reason}: {count}" for row in rows for reason, count in row.failures.items())
        or "None.",
        "## Settings",
        "\n".join(f"- {key}: {value}" for key, value in result.settings.items()),
    ]
    return "\n\n".join(parts) + "\n"


def plot_benchmark(result: BenchmarkResult, path: str | Path) -> Path:
    """Plot the shares of all sources beside each other, before (pale) and after relaxation."""
    keys = ["valid_structure", "charge_balanced", "unique", "novel", "unique_novel"]
    keys += [key for key in ("stable_unique_novel", "metastable_unique_novel") if key in result.rows[0].after]
    figure = new_figure(2.0 + 1.4 * len(keys), 3.6)
    axes = figure.subplots()
    width = 0.8 / len(result.rows)
    for k, row in enumerate(result.rows):
        at = [i - 0.4 + (k + 0.5) * width for i in range(len(keys))]
        colour = f"C{k}"
        # Stability is known of relaxed crystals only.
        pale = [100 * row.before[key].value if key in row.before else float("nan") for key in keys]
        axes.bar(at, pale, width=width, color=colour, alpha=0.3, label=None if row.after else row.name)
        if not row.after:
            continue
        full = [row.after[key] for key in keys]
        errors = [
            [100 * max(s.value - s.low, 0.0) for s in full],
            [100 * max(s.high - s.value, 0.0) for s in full],
        ]
        axes.bar(
            at,
            [100 * s.value for s in full],
            width=0.6 * width,
            yerr=errors,
            capsize=2,
            color=colour,
            label=row.name,
        )
    axes.set_xticks(range(len(keys)), [_TITLES[key].replace(", ", ",\n") for key in keys])
    axes.set_ylim(0, 105)
    axes.set_ylabel("% of those asked for")
    figure.legend(loc="outside upper left", ncols=4)
    return save_figure(figure, path)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _percent(found: Interval | None) -> str:
    return "–" if found is None else f"{100 * found.value:.1f} [{100 * found.low:.1f}, {100 * found.high:.1f}]"


def _number(value: float) -> str:
    return "–" if value != value else "∞" if value == float("inf") else f"{value:.3g}"


def _shares(shares: Sequence[dict[str, Interval]], rows: Sequence[SourceResult]) -> str:
    keys = list(shares[0])
    head = ["source", *(_TITLES[key] for key in keys)]
    lines = [[row.name, *(_percent(found[key]) for key in keys)] for row, found in zip(rows, shares, strict=True)]
    return _table(head, lines)


def _matches(rows: Sequence[SourceResult]) -> str:
    head = ["source", "as generated", "RMS", "relaxed", "RMS"]
    lines = [
        [
            row.name,
            _percent(row.match_before),
            _number(row.match_rms_before),
            _percent(row.match_after),
            _number(row.match_rms_after),
        ]
        for row in rows
        if row.match_before
    ]
    return _table(head, lines)


def _distances(rows: Sequence[SourceResult]) -> str:
    keys = list(rows[0].distance_before)
    lines = [
        [row.name, when, *(_number(found[key]) for key in keys)]
        for row in rows
        for when, found in (("generated", row.distance_before), ("relaxed", row.distance_after))
        if found
    ]
    return _table(["source", "", *(f"`{key}`" for key in keys)], lines)


def _rankings(rows: Sequence[SourceResult]) -> str:
    lines = []
    for row in rows:
        first = row.rankings[0].successes.value
        for found in row.rankings:
            factor = _number(found.successes.value / first) if first else "–"
            lines.append([row.name, found.by, str(found.relaxations), _percent(found.successes), factor])
    return _table(["source", "relaxed", "relaxations", "successes", "factor"], lines)


def _costs(rows: Sequence[SourceResult]) -> str:
    head = ["source", "generation s", "relaxation s", "s per success", "hull unknown"]
    lines = [
        [
            row.name,
            *map(_number, (row.generation_s, row.relaxation_s, row.cost_s)),
            str(row.hull_unknown),
        ]
        for row in rows
    ]
    return _table(head, lines)


def _relaxations(rows: Sequence[SourceResult]) -> str:
    head = ["source", "atoms moved Å (RMS)", "change of volume %", "energy gained eV/atom"]
    lines = [[row.name, *map(_number, (row.moved_ang, 100 * row.grown, row.gain_ev_per_atom))] for row in rows]
    return _table(head, lines)
