"""From samples of interleaved rounds to medians, spreads, ratios to mlcalc, a table and a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from mlcalc.figures import new_figure, save_figure

REFERENCES = ("mlcalc aotinductor", "mlcalc torchscript", "mlcalc eager")  # the first that was measured


@dataclass(frozen=True)
class Sample:
    """One peer in one round; ``calls`` force calls (LAMMPS: steps) took ``wall_s`` and ``processor_s`` in all."""

    round: int
    engine: str
    peer: str
    dtype: str
    atoms: int
    calls: int
    wall_s: float
    processor_s: float

    @property
    def key(self) -> tuple[str, int, str, str]:
        return self.engine, self.atoms, self.dtype, self.peer

    @property
    def processor_ms(self) -> float:
        """Processor time in ms per atom and call."""
        return 1e3 * self.processor_s / (self.calls * self.atoms)

    @property
    def wall_ms(self) -> float:
        """Wall time in ms per atom and call."""
        return 1e3 * self.wall_s / (self.calls * self.atoms)


@dataclass(frozen=True)
class Spread:
    """Median, smallest and largest over rounds."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(median(values), min(values), max(values))


@dataclass(frozen=True)
class PeerCost:
    """Cost of one peer: ms per atom and force call (LAMMPS: step), over rounds.

    ``times_mlcalc`` is its processor time over that of ``reference`` (engine, number type, atoms the same), taken round
    by round; None if mlcalc was not measured.
    """

    engine: str
    atoms: int
    dtype: str
    peer: str
    processor_ms: Spread
    wall_ms: Spread
    cpu_share: float
    rounds: int
    calls: int
    reference: str | None
    times_mlcalc: Spread | None


def summarise(samples: Sequence[Sample], references: Sequence[str] = REFERENCES) -> list[PeerCost]:
    """Return the cost of every peer, cheapest first within engine, atoms and number type.

    Ratios are to the first of ``references`` that was measured.

    Raises:
        ValueError: a peer has two samples in a round, or a wall time that cannot be.
    """
    groups: dict[tuple[str, int, str, str], dict[int, Sample]] = {}
    for sample in samples:
        rounds = groups.setdefault(sample.key, {})
        if sample.round in rounds or sample.calls < 1 or sample.wall_s <= 0.0:
            raise ValueError(f"{sample}: a second sample of its round, or no time in it")
        rounds[sample.round] = sample
    costs = [_cost(key, rounds, groups, references) for key, rounds in groups.items()]
    return sorted(costs, key=lambda c: (c.engine, c.atoms, c.dtype, c.processor_ms.median))


def _cost(
    key: tuple[str, int, str, str],
    rounds: dict[int, Sample],
    groups: dict[tuple[str, int, str, str], dict[int, Sample]],
    references: Sequence[str],
) -> PeerCost:
    engine, atoms, dtype, peer = key
    reference, ratios = None, []
    for name in references:
        ours = groups.get((engine, atoms, dtype, name), {})
        ratios = [s.processor_ms / ours[n].processor_ms for n, s in rounds.items() if n in ours]
        if ratios:
            reference = name
            break
    return PeerCost(
        engine=engine,
        atoms=atoms,
        dtype=dtype,
        peer=peer,
        processor_ms=Spread.of([s.processor_ms for s in rounds.values()]),
        wall_ms=Spread.of([s.wall_ms for s in rounds.values()]),
        cpu_share=median([s.processor_s / s.wall_s for s in rounds.values()]),
        rounds=len(rounds),
        calls=sum(s.calls for s in rounds.values()),
        reference=reference,
        times_mlcalc=Spread.of(ratios) if ratios else None,
    )


def table(costs: Sequence[PeerCost]) -> str:
    """Return a Markdown table."""
    lines = [
        "| engine | atoms | numbers | peer | ms/atom | (range) | wall ms/atom | CPU | times mlcalc | (range) |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for c in costs:
        own, ratio = c.processor_ms, c.times_mlcalc
        times = f"{ratio.median:.2f} | {ratio.low:.2f}–{ratio.high:.2f}" if ratio else "– | –"
        lines.append(
            f"| {c.engine} | {c.atoms} | {c.dtype} | {c.peer} | {own.median:.4f} | {own.low:.4f}–{own.high:.4f} | "
            f"{c.wall_ms.median:.4f} | {100 * c.cpu_share:.0f} % | {times} |"
        )
    return "\n".join(lines)


def plot(costs: Sequence[PeerCost], path: Path) -> Path:
    """Draw the cost of every peer for the largest number of atoms, one panel an engine; lines reach over the range."""
    from matplotlib.ticker import FuncFormatter, NullFormatter

    atoms = max(c.atoms for c in costs)
    engines = sorted({c.engine for c in costs})
    figure = new_figure(7.0, 1.2 + 0.32 * sum(c.atoms == atoms for c in costs))
    heights = [sum(c.atoms == atoms and c.engine == engine for c in costs) for engine in engines]
    panels = figure.subplots(len(engines), 1, squeeze=False, sharex=True, height_ratios=heights)[:, 0]
    for panel, engine in zip(panels, engines, strict=True):
        shown = sorted(
            (c for c in costs if c.atoms == atoms and c.engine == engine), key=lambda c: -c.processor_ms.median
        )
        for row, c in enumerate(shown):
            own = c.processor_ms
            colour = "tab:blue" if c.peer.startswith("mlcalc") else "0.45"
            reach = [[own.median - own.low], [own.high - own.median]]
            panel.errorbar(own.median, row, xerr=reach, fmt="o", ms=5, color=colour, lw=1.0, capsize=2)
            panel.text(own.high * 1.08, row, f"{own.median:.3g}", va="center", fontsize=8)
        panel.set_yticks(range(len(shown)), [f"{c.peer}, {c.dtype}" for c in shown], fontsize=8)
        panel.set_xscale("log")
        panel.set_ylim(-0.6, len(shown) - 0.4)
        panel.grid(axis="x", which="both", lw=0.3)
        panel.set_title(f"{engine}, {atoms} Si atoms, one thread", fontsize=9, loc="left")
        panel.margins(x=0.15)
        panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        panel.xaxis.set_minor_formatter(NullFormatter())
    panels[-1].set_xlabel("processor time, ms per atom and force call")
    return save_figure(figure, path)
