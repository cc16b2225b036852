"""Changes of light and colour that are part of the `photos` set, not of any view."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

# RGB to YIQ (NTSC, 1953): brightness apart from two axes of colour, so that a turn of these changes hue alone.
_TO_YIQ = np.array([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]], np.float32)
_CHUNK = 1024  # patches at once, to stay within the processor's cache


class Light(NamedTuple):
    """How the light falls on each of n pictures."""

    gamma: Float[np.ndarray, " n"]
    contrast: Float[np.ndarray, " n"]
    brightness: Float[np.ndarray, " n"]
    colour: Float[np.ndarray, "n 3 3"]  # hue rotation, then cast, as one matrix on RGB


def draw_light(
    n: int, rng: np.random.Generator, gamma: float, contrast: float, brightness: float, cast: float, hue: float
) -> Light:
    """Draws for n pictures: factors uniform in the logarithm between 1/x and x, shifts and turns between -x and x."""
    draws = rng.random((n, 7), np.float32) * 2 - 1
    rotation = _rotate_hue(2 * np.pi * hue * draws[:, 3])
    casts = cast ** draws[:, 4:]
    return Light(gamma ** draws[:, 0], contrast ** draws[:, 1], brightness * draws[:, 2], casts[:, :, None] * rotation)


def change_light(images: UInt8[np.ndarray, "n h w 3"], light: Light) -> UInt8[np.ndarray, "n h w 3"]:
    """Gamma, hue and cast, then contrast around the middle and brightness; clipped to 0 … 255."""
    changed = np.empty_like(images)
    for start in range(0, len(images), _CHUNK):
        rows = slice(start, start + _CHUNK)
        gamma, contrast, brightness = (part[rows, None, None, None] for part in light[:3])
        pixels = (images[rows].astype(np.float32) / 255) ** gamma
        pixels = np.einsum("nhwc,ndc->nhwd", pixels, light.colour[rows], optimize=True)
        pixels = (pixels - 0.5) * contrast + 0.5 + brightness
        changed[rows] = np.rint(np.clip(pixels, 0, 1) * 255)
    return changed


def _rotate_hue(angle: Float[np.ndarray, " n"]) -> Float[np.ndarray, "n 3 3"]:
    """A matrix on RGB that turns colours by an angle in radians and keeps their brightness."""
    turn = np.zeros((len(angle), 3, 3), np.float32)
    turn[:, 0, 0] = 1
    turn[:, 1, 1] = turn[:, 2, 2] = np.cos(angle)
    turn[:, 2, 1] = np.sin(angle)
    turn[:, 1, 2] = -turn[:, 2, 1]
    return np.linalg.inv(_TO_YIQ) @ turn @ _TO_YIQ
