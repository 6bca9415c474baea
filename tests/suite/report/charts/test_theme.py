"""Colours: contrast by WCAG 2.2, and distance as seen by the colour-blind."""

import itertools

import numpy as np
import pytest

from suite.report.charts import BACKGROUND, PALETTE, themed
from suite.report.charts.theme import DASHES, INK, QUIET, SHAPES, turn

PAGES = {"light": ("#ffffff", "#f6f8fa"), "dark": ("#16181d", "#21252d")}
"""What the charts may lie on: the background itself and the panels of a page."""

MACHADO = {  # Machado, Oliveira, Fernandes 2009, severity 1, on linear RGB
    "none": np.eye(3),
    "protanopia": np.array([[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
                            [-0.003882, -0.048116, 1.051998]]),
    "deuteranopia": np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
                              [-0.011820, 0.042940, 0.968881]]),
    "tritanopia": np.array([[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
                            [0.004733, 0.691367, 0.303900]]),
}  # fmt: skip
XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def linear(color):
    rgb = np.array([int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def contrast(a, b):
    light, dark = sorted((float(linear(color) @ XYZ[1]) for color in (a, b)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def lab(color, eyes):
    xyz = XYZ @ np.clip(eyes @ linear(color), 0, 1) / np.array([0.9505, 1, 1.089])
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def test_the_measure_of_contrast():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#767676", "#ffffff") == pytest.approx(4.54, abs=0.01)  # WCAG's own example
    assert contrast("#f0e442", "#ffffff") < 3  # the yellow of Okabe and Ito, which is why it was replaced


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_marks_and_text_stand_out_from_the_background(theme):
    assert BACKGROUND[theme] in PAGES[theme]
    for page in PAGES[theme]:
        assert all(contrast(color, page) >= 3 for color in PALETTE[theme])
        assert contrast(INK[theme], page) >= 4.5
        assert contrast(QUIET[theme], page) >= 4.5


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("eyes", MACHADO)
def test_colours_differ_for_everybody(theme, eyes):
    colors = [lab(color, MACHADO[eyes]) for color in PALETTE[theme]]
    assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(colors, 2)) > 19


def test_a_colour_that_comes_round_again_has_another_shape_and_dash():
    looks = [(i % 8, turn(i, SHAPES), turn(i, DASHES)) for i in range(64)]
    assert len({look[:2] for look in looks}) == 64
    assert len({(look[0], look[2]) for look in looks}) == 64
    assert len({shape for _, shape, _ in looks[:8]}) == 8  # no need of colour among the first


def test_a_theme_leaves_the_spec_as_it_was():
    spec = {"mark": "point", "width": 620, "title": {"text": "t"}}
    light, dark = themed(spec, dark=False), themed(spec, dark=True)
    assert spec == {"mark": "point", "width": 620, "title": {"text": "t"}}
    assert light["width"] == dark["width"] == 620
    assert light["config"]["range"]["category"] == list(PALETTE["light"])
    assert dark["config"]["range"]["category"] == list(PALETTE["dark"])
    assert light["config"]["background"] == dark["config"]["background"] == "transparent"
