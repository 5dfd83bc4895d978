"""Colours of the report, for light and dark, as rules of a style sheet.

Computed in OKLCH (Ottosson 2020), where equal steps look equal, so that no language shouts.
"""

from __future__ import annotations

import math

HEAT_STEPS = 11
_HUES = 12
# Of languages and curves: lightness and chroma that are told apart from the page, by scheme.
_MARK = {"light": (0.56, 0.15), "dark": (0.76, 0.13)}
# Drawn about the origin, all of about the same area; with the hues they tell 72 languages apart.
SHAPES = (
    "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0",
    "M-3.5-3.5h7v7h-7z",
    "M0-5.2L5 3.6H-5z",
    "M0-5L5 0L0 5L-5 0z",
    "M0 5.2L5-3.6H-5z",
    "M-1.6-5h3.2v3.4h3.4v3.2h-3.4V5h-3.2V1.6H-5v-3.2h3.4z",
)
Colour = tuple[float, float, float]


def srgb(lightness: float, chroma: float, hue: float) -> str:
    """An OKLCH colour, hue in degrees, as ``#rrggbb``; less chroma where sRGB has not as much."""
    for share in (1.0, 0.85, 0.7, 0.5, 0.3, 0.0):
        colour = _linear(lightness, share * chroma, hue)
        if all(-0.001 <= value <= 1.001 for value in colour):
            break
    return "#" + "".join(f"{round(255 * _gamma(value)):02x}" for value in colour)


def _linear(lightness: float, chroma: float, hue: float) -> Colour:
    a = chroma * math.cos(math.radians(hue))
    b = chroma * math.sin(math.radians(hue))
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    medium = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    return (
        4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short,
        -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short,
        -0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short,
    )


def _gamma(value: float) -> float:
    value = min(1.0, max(0.0, value))
    return 12.92 * value if value <= 0.0031308 else 1.055 * value ** (1 / 2.4) - 0.055


def contrast(one: str, other: str) -> float:
    """Of two ``#rrggbb`` colours, as WCAG 2 defines it: from 1 to 21."""
    dark, light = sorted((_luminance(one), _luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def mark_class(number: int) -> str:
    """The class of the colour of language or curve `number`."""
    return f"k{number % _HUES}"


def shape(number: int) -> str:
    """The path of the mark of language `number`, another when the hues are used up."""
    return SHAPES[number // _HUES % len(SHAPES)]


def heat_class(share: float) -> str:
    """The class of a cell of a matrix, for a share from 0 to 1."""
    return f"h{min(HEAT_STEPS - 1, max(0, math.floor(share * HEAT_STEPS)))}"


def heat(step: int, scheme: str) -> tuple[str, str]:
    """Background and text of a cell; weak results are warm, strong ones blue."""
    at = step / (HEAT_STEPS - 1)
    hue = 45 + (250 - 45) * at
    strength = abs(2 * at - 1)
    if scheme == "light":
        background = srgb(0.97 - 0.42 * strength, 0.02 + 0.13 * strength, hue if at else 40)
    else:
        background = srgb(0.27 + 0.38 * strength, 0.02 + 0.11 * strength, hue if at else 40)
    return background, max(("#000000", "#ffffff"), key=lambda ink: contrast(ink, background))


def rules(scheme: str) -> str:
    """The style sheet's rules of one scheme, ``light`` or ``dark``."""
    lightness, chroma = _MARK[scheme]
    # Neighbouring numbers get hues far from each other: 5 and 12 have no common factor.
    marks = [
        f".k{at}{{--k:{srgb(lightness, chroma, 265 + at * 5 % _HUES * 360 / _HUES)}}}"
        for at in range(_HUES)
    ]
    cells = []
    for step in range(HEAT_STEPS):
        background, ink = heat(step, scheme)
        cells.append(f".h{step}{{background:{background};color:{ink}}}")
    return "".join(marks + cells)
