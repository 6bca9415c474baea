"""Charts as Vega-Lite specs: plain dicts with their data inside, for pages and figures alike."""

from suite.report.charts.lines import curve_bands, run_curves, title_of
from suite.report.charts.points import accuracy, cost_accuracy, of_table, sharpness_accuracy
from suite.report.charts.theme import BACKGROUND, PALETTE, VEGA_LITE, Spec, themed

__all__ = [
    "BACKGROUND",
    "PALETTE",
    "VEGA_LITE",
    "Spec",
    "accuracy",
    "cost_accuracy",
    "curve_bands",
    "of_table",
    "run_curves",
    "sharpness_accuracy",
    "themed",
    "title_of",
]
