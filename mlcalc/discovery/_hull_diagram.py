"""The hull as a picture: one element, two or three; references and candidates can be told apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING

from ase import Atoms
from markupsafe import Markup
from matplotlib import colormaps
from matplotlib.colors import to_hex

from mlcalc.discovery._svg import Axes, Pixel, drawing, line, minus, text

if TYPE_CHECKING:
    from mlcalc.discovery._campaign_result import CampaignResult
    from mlcalc.discovery.hull import Hull

#: What a point is, and what the legend says.
KINDS = {"reference": "reference", "known": "candidate, among the references", "new": "candidate, new"}
# Two relaxations to the same crystal differ by less, eV per atom.
_EQUAL = 5e-4
_SIDE, _LEFT, _TOP = 430.0, 60.0, 62.0


@dataclass(frozen=True)
class HullPoint:
    """A phase in the diagram.

    Attributes:
        kind: ``reference``, ``known`` (a candidate that is one of them) or ``new``.
        name: what to call it.
        fractions: of atoms, by element of the system; they add up to 1.
        formation_ev_per_atom: relative to the elements' references.
        above_hull_ev_per_atom: relative to the references.
        volume_ang3_per_atom: Å³.
        rank: of a candidate.
    """

    kind: str
    name: str
    fractions: tuple[float, ...]
    formation_ev_per_atom: float
    above_hull_ev_per_atom: float
    volume_ang3_per_atom: float
    rank: int | None = None

    @property
    def told(self) -> str:
        """What is said about it where it is pointed at."""
        who = f"rank {self.rank}, {self.kind}" if self.rank else "reference"
        return (
            f"{self.name}: {minus(round(self.above_hull_ev_per_atom, 4))} eV/atom above the hull, "
            f"formation {minus(round(self.formation_ev_per_atom, 4))} eV/atom ({who})"
        )


@dataclass(frozen=True)
class HullDiagram:
    """A picture, how many points it shows, and what it does not show (sentences)."""

    svg: Markup | None
    shown: int
    remarks: tuple[str, ...]


def ternary_position(fractions: Sequence[float]) -> Pixel:
    """Return the place of a composition in a triangle of side 1, corners (0, 0), (1, 0) and (1/2, √3/2); y is up."""
    total = sum(fractions)
    _, b, c = (value / total for value in fractions)
    return b + c / 2, c * sqrt(3) / 2


def hull_points(result: CampaignResult) -> list[HullPoint]:
    """Return references and ranked crystals that have a place, highest above the hull first."""
    references, hull = result.references, result.references.hull()
    points = []
    for phase in references.phases:
        formation = hull.formation_energy(phase.atoms, phase.enthalpy_ev_per_atom, hull.scale)
        above = hull.energy_above_hull(phase.atoms, phase.enthalpy_ev_per_atom, hull.scale)
        if formation is not None and above is not None:
            shares = _fractions(phase.atoms, references.elements)
            points.append(HullPoint("reference", phase.name, shares, formation, above, _volume(phase.atoms)))
    for crystal in result.ranked:
        formation, above = crystal.formation_energy_ev_per_atom, crystal.energy_above_hull_ev_per_atom
        if formation is not None and above is not None:
            kind = "known" if crystal.known_as else "new"
            name = f"{crystal.formula} {crystal.space_group_symbol or ''}".strip()
            shares = _fractions(crystal.atoms, references.elements)
            points.append(HullPoint(kind, name, shares, formation, above, _volume(crystal.atoms), crystal.rank))
    # A candidate lies over the reference that it is.
    return sorted(points, key=lambda point: (-round(point.above_hull_ev_per_atom, 3), point.rank is not None))


def hull_diagram(result: CampaignResult) -> HullDiagram:
    """Draw the hull of a campaign."""
    elements, points = result.references.elements, hull_points(result)
    placed = sum(point.rank is not None for point in points)
    remarks = []
    if placed < len(result.ranked):
        remarks.append(f"{len(result.ranked) - placed} crystals have no place: an element has no reference.")
    draw: Callable[[CampaignResult, list[HullPoint]], Markup]
    if len(elements) == 1:
        draw, height = _single, lambda point: point.above_hull_ev_per_atom
    elif len(elements) == 2:
        draw, height = _binary, lambda point: point.formation_ev_per_atom
    elif len(elements) == 3:
        draw, height = _ternary, lambda point: 0.0
    else:
        return HullDiagram(None, 0, (f"A hull of {len(elements)} elements has no picture; the table has it.", *remarks))
    if not points:
        return HullDiagram(None, 0, ("There is nothing to draw.", *remarks))
    heights = [height(point) for point in points]
    top = max(0.1, 1.5 * result.settings.above_hull_ev_per_atom, -1.5 * min(heights))
    shown = [point for point, value in zip(points, heights, strict=True) if value <= top]
    if len(shown) < len(points):
        left = f"{len(points) - len(shown)} more, {sum(p.rank is not None for p in points if p not in shown)}"
        remarks.append(f"{left} of them candidates, lie above {top:.2g} eV/atom, outside the picture.")
    return HullDiagram(draw(result, shown), len(shown), tuple(remarks))


def _fractions(atoms: Atoms, elements: Sequence[str]) -> tuple[float, ...]:
    symbols = atoms.get_chemical_symbols()
    return tuple(symbols.count(element) / len(symbols) for element in elements)


def _volume(atoms: Atoms) -> float:
    return float(atoms.cell.volume) / len(atoms)


def _shape(kind: str, at: Pixel, size: float = 5.0) -> Markup:
    x, y = at
    if kind == "reference":
        return Markup('<rect x="{:.1f}" y="{:.1f}" width="{:g}" height="{:g}"/>').format(
            x - size, y - size, 2 * size, 2 * size
        )
    if kind == "known":
        return Markup('<circle cx="{:.1f}" cy="{:.1f}" r="{:g}"/>').format(x, y, size + 0.5)
    corners = [(x, y - 1.5 * size), (x + 1.5 * size, y), (x, y + 1.5 * size), (x - 1.5 * size, y)]
    return Markup('<polygon points="{}"/>').format(" ".join(f"{a:.1f},{b:.1f}" for a, b in corners))


def _marker(point: HullPoint, at: Pixel, colour: str | None = None) -> Markup:
    fill = Markup(' fill="{}"').format(colour) if colour else ""
    opens = Markup(' data-rank="{}"').format(point.rank) if point.rank else ""
    style = "filled" if colour else point.kind
    return Markup('<g class="point {}"{}{}><title>{}</title>{}</g>').format(
        style, opens, fill, point.told, _shape(point.kind, at)
    )


def _legend(kinds: set[str], left: float, coloured: bool = False) -> list[Markup]:
    parts, x = [], left
    for kind, words in KINDS.items():
        if kind in kinds:
            style = "outline" if coloured else kind
            parts.append(Markup('<g class="{}">{}</g>').format(style, _shape(kind, (x, 14))))
            parts.append(text((x + 13, 18), words))
            x += 40 + 7.2 * len(words)
    return parts


def _range(values: Sequence[float], least: float) -> tuple[float, float]:
    low, high = min(values), max(values)
    gap = max(0.08 * (high - low), least)
    return low - gap, high + gap


def _single(result: CampaignResult, points: list[HullPoint]) -> Markup:
    heights = [p.above_hull_ev_per_atom for p in points]
    axes = Axes(_range([p.volume_ang3_per_atom for p in points], 0.3), _range([0.0, *heights], 0.005))
    parts = axes.frame("volume per atom (Å³)", "above the lowest reference (eV/atom)")
    parts += [_marker(p, axes.at(p.volume_ang3_per_atom, p.above_hull_ev_per_atom)) for p in points]
    label = f"Energy above the lowest reference of {result.references.elements[0]} over volume per atom"
    return drawing(axes.width, axes.height, label, [*parts, *_legend({p.kind for p in points}, 72)])


def _binary(result: CampaignResult, points: list[HullPoint]) -> Markup:
    first, second = result.references.elements
    axes = Axes((-0.02, 1.02), _range([0.0, *(p.formation_ev_per_atom for p in points)], 0.005))
    ends = {0.0: f"0 ({first})", 1.0: f"1 ({second})"}
    ticks = [(k / 5, ends.get(k / 5, f"{k / 5:g}")) for k in range(6)]
    parts = axes.frame(f"share of {second} atoms", "formation energy (eV/atom)", ticks)
    everyone = _vertices([p for p in points if p.above_hull_ev_per_atom < 1e-9])
    if any(p.above_hull_ev_per_atom < -_EQUAL for p in points):
        parts.append(line([axes.at(x, y) for x, y in _lower(everyone)], "hull below"))
    on_hull = _vertices([p for p in points if p.kind == "reference" and p.above_hull_ev_per_atom < 1e-9])
    parts.append(line([axes.at(x, y) for x, y in on_hull], "hull"))
    parts += [_marker(p, axes.at(p.fractions[1], p.formation_ev_per_atom)) for p in points]
    label = f"Formation energy over composition of {first} and {second}, with the convex hull of the references"
    return drawing(axes.width, axes.height, label, [*parts, *_legend({p.kind for p in points}, 72)])


def _vertices(points: list[HullPoint]) -> list[Pixel]:
    return sorted((p.fractions[1], p.formation_ev_per_atom) for p in points)


def _lower(points: list[Pixel]) -> list[Pixel]:
    """Return the lower convex hull of points that are sorted from left to right (Andrew's monotone chain)."""
    chain: list[Pixel] = []
    for x, y in points:
        while len(chain) > 1:
            (x1, y1), (x2, y2) = chain[-2:]
            if (x2 - x1) * (y - y1) - (y2 - y1) * (x - x1) > 0:
                break
            chain.pop()
        chain.append((x, y))
    return chain


def _corner(fractions: Sequence[float]) -> Pixel:
    x, y = ternary_position(fractions)
    return _LEFT + x * _SIDE, _TOP + (sqrt(3) / 2 - y) * _SIDE


def _ternary(result: CampaignResult, points: list[HullPoint]) -> Markup:
    elements, hull = result.references.elements, result.references.hull()
    top = max(0.1, 2 * result.settings.above_hull_ev_per_atom)
    corners = [_corner(c) for c in ((1, 0, 0), (0, 1, 0), (0, 0, 1))]
    parts = [line([*corners, corners[0]], "zero")]
    parts += [line([_corner(a), _corner(b)], "tie") for a, b in _ties(hull, elements)]
    for element, (x, y), shift in zip(elements, corners, (20, 20, -10), strict=True):
        parts.append(text((x, y + shift), element, "middle"))
    parts += [_marker(p, _corner(p.fractions), _colour(p.above_hull_ev_per_atom, top)) for p in points]
    parts += [*_bar(top), *_legend({p.kind for p in points}, 20, coloured=True)]
    label = f"Energy above the hull of {', '.join(elements)} in the triangle of compositions"
    return drawing(640, _TOP + _SIDE * sqrt(3) / 2 + 30, label, parts)


def _ties(hull: Hull, elements: Sequence[str]) -> list[tuple[tuple[float, ...], tuple[float, ...]]]:
    """Return the lines between phases that are stable together, as compositions."""
    pairs = []
    for one, other in hull.tie_lines():
        shares = [_fractions(Atoms(phase.formula), elements) for phase in (one, other)]
        pairs.append((shares[0], shares[1]))
    return pairs


def _colour(above: float, top: float) -> str:
    return to_hex(colormaps["viridis"](1 - min(max(above / top, 0.0), 1.0)))


def _bar(top: float, steps: int = 40) -> list[Markup]:
    x, y, height = 560.0, 130.0, 200.0
    parts = [text((x + 9, y - 30), "above hull", "middle"), text((x + 9, y - 14), "(eV/atom)", "middle")]
    for k in range(steps):
        place = Markup('<rect x="{:g}" y="{:.1f}" width="18" height="{:.1f}" fill="{}"/>')
        parts.append(place.format(x, y + k * height / steps, height / steps + 0.4, _colour(top * (1 - k / steps), top)))
    for share, words in ((0, f"≥ {top:g}"), (0.5, f"{top / 2:g}"), (1, "0")):
        parts.append(text((x + 25, y + share * height + 4), words))
    return parts
