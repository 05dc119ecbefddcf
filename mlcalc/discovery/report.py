"""Self-contained HTML pages: pictures and styles inside, nothing from the network; the page of the demo."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape


def symbol_html(symbol: str | None) -> Markup:
    """Set a Hermann-Mauguin symbol: overlined rotoinversions, screw axes as subscripts."""
    if symbol is None:
        return Markup("–")
    text = re.sub(r"-(\d)", r'<span class="bar">\1</span>', str(escape(symbol)))
    return Markup(re.sub(r"_(\d)", r"<sub>\1</sub>", text))


def formula_html(formula: str) -> Markup:
    """Set a chemical formula with subscripts."""
    return Markup(re.sub(r"(\d+)", r"<sub>\1</sub>", str(escape(formula))))


def picture(svg: str, alt: str) -> Markup:
    """Return an image element with the picture inside it."""
    return image(svg.encode(), "image/svg+xml", alt)


def image(content: bytes, kind: str, alt: str) -> Markup:
    """Return an image element with a file of a media type inside it."""
    data = base64.b64encode(content).decode()
    return Markup('<img alt="{}" src="data:{};base64,{}">').format(alt, kind, Markup(data))


def asset(name: str) -> Markup:
    """Return a file of ``mlcalc/discovery/page`` as it is, to stand inside a page."""
    return Markup(files("mlcalc.discovery").joinpath("page", name).read_text(encoding="utf-8"))


def policy(scripts: Sequence[str]) -> str:
    """Return a Content-Security-Policy: no network, and no script but those of the page."""
    digests = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    return f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:"


def page_json(value: Any) -> Markup:
    """Return JSON that may stand in a page: nothing in it can end the element around it."""
    return Markup(json.dumps(value, separators=(",", ":")).replace("<", "\\u003c"))


def number(value: float | None, digits: int = 3) -> str:
    """Fixed digits, a real minus sign; a dash for None."""
    if value is None:
        return "–"
    return f"{round(value, digits) + 0.0:.{digits}f}".replace("-", "−")  # + 0.0: no minus before a zero


def scientific(value: float | None) -> Markup:
    """Two digits and a power of ten; a dash for None."""
    if value is None:
        return Markup("–")
    if value == 0:
        return Markup("0")
    mantissa, exponent = f"{value:.1e}".split("e")
    return Markup(f"{mantissa}&thinsp;×&thinsp;10<sup>{int(exponent)}</sup>".replace("-", "−"))


def seconds(value: float | None) -> str:
    """Seconds below two minutes, minutes above."""
    if value is None:
        return "–"
    return f"{value:.1f} s" if value < 120 else f"{int(value // 60)} min {value % 60:02.0f} s"


def render(template: str, values: dict[str, Any]) -> str:
    """Render a template of this package; an unknown name in it is an error."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("mlcalc.discovery"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["asset"] = asset
    environment.filters.update(
        symbol=symbol_html, formula=formula_html, number=number, scientific=scientific, seconds=seconds
    )
    return environment.get_template(template).render(values)


def write_report(path: Path, record: dict[str, Any], pictures: dict[str, str]) -> None:
    """Write the page of a demo record (see ``mlcalc.discovery.demo``).

    Args:
        path: HTML file.
        record: what was found; the same document that goes into ``report.json``.
        pictures: name → SVG text.
    """
    from mlcalc.files import write_atomic

    alts = {
        "energy_volume": "Energy per atom over volume per atom of all relaxed candidates",
        "bands": "Phonon bands and density of states of the lowest structure",
        "rdf": "Radial distribution functions of both engines",
        "temperature": "Temperature over time in both engines",
    }
    images = {name: picture(svg, alts.get(name, name)) for name, svg in pictures.items()}
    write_atomic(path, render("demo.html.j2", {"r": record, "images": images}))
