"""Pretext tasks on the device: from images to inputs, and what is to be told about them."""

from ssl_lab.tasks.coloring import Coloring
from ssl_lab.tasks.context import Context
from ssl_lab.tasks.holes import Holes
from ssl_lab.tasks.jigsaw import Jigsaw
from ssl_lab.tasks.palette import Palette, gamut_bins
from ssl_lab.tasks.permutations import hamming_permutations
from ssl_lab.tasks.rotation import Rotation

__all__ = ["Coloring", "Context", "Holes", "Jigsaw", "Palette", "Rotation", "gamut_bins", "hamming_permutations"]
