"""Rendering for the tests of the charts, and a leaderboard with everything odd in it."""

import re
import xml.etree.ElementTree as ET

import vl_convert

from suite.report import charts
from tests.suite.report.fake_records import board, record, seeds, wavy

LONG = "x" * 300
HOSTILE = ["<script>alert(1)</script>", "🚀 emoji", LONG, "b|c\n$x$ \\input{y}", "quote\"and's", "datum['x']"]


def odd_board():
    """Every verdict, hostile names, failures, one seed; more rows than there are colours."""
    records = [*seeds("sgd", wavy(0.70)), *seeds("sam", wavy(0.71)), *seeds("nso", wavy(0.7098, phase=3)),
               *seeds("few", [0.66, 0.67]), *seeds("one", [0.67])]  # fmt: skip
    records += [record("lost", seed, failed=True) for seed in range(3)]
    broken = seeds("partly", wavy(0.9))
    broken[3] = record("partly", 3, failed=True)
    for i, name in enumerate(HOSTILE):
        records += seeds(name, wavy(0.6 + i / 100), cost=1 + i, curvature=20.0 + i)
    return board([*records, *broken])


def svg(spec, dark=False):
    drawn = vl_convert.vegalite_to_svg(
        charts.themed(spec, dark), charts.VEGA_LITE, show_warnings=True, allowed_base_urls=[]
    )
    ET.fromstring(drawn)  # well-formed, whatever the names
    return drawn


def texts(drawn):
    """What is to be read in an SVG."""
    return [element.text or "" for element in ET.fromstring(drawn).iter() if element.tag.endswith("text")]


def spoken(drawn):
    """What a screen reader is told of each mark."""
    return re.findall('aria-label="([^"]*)"', drawn)


def count(drawn, mark):
    """How many marks of a type, such as "rule", an SVG has; axes and legends left aside."""
    groups = [element for element in ET.fromstring(drawn).iter()
              if element.get("class", "").startswith(f"mark-{mark} role-mark")]  # fmt: skip
    return sum(len(group) for group in groups)
