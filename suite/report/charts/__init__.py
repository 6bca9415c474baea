"""Charts as Vega-Lite specs: plain dicts that contain their data, for pages and figures."""

from suite.report.charts.line_charts import curve_bands, run_curves
from suite.report.charts.points import cost_scores, of_table, scores, sharpness_scores
from suite.report.charts.theme import BACKGROUND, PALETTE, VEGA_LITE, Spec, themed

__all__ = [
    "BACKGROUND",
    "PALETTE",
    "VEGA_LITE",
    "Spec",
    "cost_scores",
    "curve_bands",
    "of_table",
    "run_curves",
    "scores",
    "sharpness_scores",
    "themed",
]
