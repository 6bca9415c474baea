"""Light and dark themes of the charts. No chart encodes anything by colour alone.

The colours are those of Okabe and Ito (2008), with yellow on white and black on dark replaced, adjusted to a
contrast of at least 3:1 to the background (WCAG 1.4.11) and 20 CIELAB units from each other, also under
protanopia, deuteranopia and tritanopia (matrices of Machado et al. 2009). Both themes have the same order of
hues.
"""

from __future__ import annotations

from typing import Any

Spec = dict[str, Any]
"""A Vega-Lite spec."""

SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
VEGA_LITE = "6.4"
"""The Vega-Lite version of the specs and of the renderer."""

PALETTE = {
    "light": ("#2d5d95", "#de7108", "#059056", "#c9739d", "#6b5b00", "#0091ff", "#4b2b99", "#1d1e21"),
    "dark": ("#8d97e6", "#d86821", "#33a96c", "#c381a8", "#efd738", "#9fdeff", "#8c56e3", "#f9fdf2"),
}
"""Blue, vermillion, green, purple, olive or yellow, sky blue, violet, and the colour of ink."""

BACKGROUND = {"light": "#ffffff", "dark": "#16181d"}
INK = {"light": "#1d1e21", "dark": "#eef0f3"}
QUIET = {"light": "#565d66", "dark": "#a9b0ba"}
"""Colour of subtitles, axes and the Pareto front."""
GRID = {"light": "#e4e7eb", "dark": "#2d323a"}

SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right",
          "triangle-left")  # fmt: skip
DASHES = ((1, 0), (6, 2), (2, 2), (8, 2, 2, 2), (12, 3), (4, 4), (8, 2, 2, 2, 2, 2), (1, 3))

WIDTH = 620
"""Width of a chart outside a page, in pixels."""

_FONT = "system-ui, 'Segoe UI', 'Helvetica Neue', Arial, sans-serif"
LABEL_LIMIT = 190
"""Pixels of a name on an axis or in a legend; tooltips show it in full."""


def turn(index: int, values: tuple[Any, ...]) -> Any:
    """Return the shape or dash of the index-th name; names that share a colour get different ones."""
    return values[(index + index // len(PALETTE["light"])) % len(values)]


def themed(spec: Spec, dark: bool) -> Spec:
    """Return the spec with the config of a theme and a transparent background."""
    theme = "dark" if dark else "light"
    ink, quiet, grid = INK[theme], QUIET[theme], GRID[theme]
    config = {
        "background": "transparent",
        "font": _FONT,
        "range": {"category": list(PALETTE[theme])},
        "view": {"stroke": None},
        "title": {"color": ink, "fontSize": 15, "fontWeight": 600, "anchor": "start", "frame": "bounds",
                  "offset": 14, "limit": {"expr": "max(240, width)"},
                  "subtitleColor": quiet, "subtitleFontSize": 12, "subtitlePadding": 6,
                  "subtitleLineHeight": 16},
        "axis": {"labelColor": ink, "titleColor": ink, "labelFontSize": 12, "titleFontSize": 12,
                 "titleFontWeight": 500, "titlePadding": 10, "labelLimit": LABEL_LIMIT,
                 "labelOverlap": "greedy", "labelSeparation": 6, "gridColor": grid,
                 "domainColor": quiet, "tickColor": quiet, "tickSize": 4, "labelPadding": 5,
                 "titleLimit": {"expr": "max(200, width)"}},
        "axisY": {"domain": False, "ticks": False},
        "legend": {"orient": "bottom", "direction": "horizontal", "symbolOpacity": 1,
                   "columns": {"expr": "max(1, floor(width / 130))"}, "labelColor": ink,
                   "titleColor": quiet, "labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": 500,
                   "labelLimit": LABEL_LIMIT, "symbolSize": 90, "rowPadding": 4, "columnPadding": 18},
        "point": {"filled": True, "size": 90, "opacity": 1},
        "rule": {"strokeWidth": 2},
        "line": {"strokeWidth": 2},
        "text": {"color": ink, "fontSize": 11},
        "style": {
            "front": {"color": quiet, "strokeWidth": 1.5, "strokeDash": [5, 4]},
            "failed": {"color": ink, "shape": "cross", "angle": 45, "size": 120},
        },
    }  # fmt: skip
    return {**spec, "config": config}
