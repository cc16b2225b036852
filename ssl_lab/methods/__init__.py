"""The ideas: each method is a LightningModule composed from its parts."""

from ssl_lab.methods.base import Method
from ssl_lab.methods.dense import Colorization, ContextEncoder, Dense
from ssl_lab.methods.flops import flops_per_image
from ssl_lab.methods.momentum import MoCo, MoCoV1, MoCoV2, MoCoV3
from ssl_lab.methods.pretext import ContextPrediction, JigsawPuzzle, Pretext, RotNet
from ssl_lab.methods.two_view import EMPSSL, BarlowTwins, SimCLR, TwoView, VICReg

__all__ = [
    "EMPSSL",
    "BarlowTwins",
    "Colorization",
    "ContextEncoder",
    "ContextPrediction",
    "Dense",
    "JigsawPuzzle",
    "Method",
    "MoCo",
    "MoCoV1",
    "MoCoV2",
    "MoCoV3",
    "Pretext",
    "RotNet",
    "SimCLR",
    "TwoView",
    "VICReg",
    "flops_per_image",
]
