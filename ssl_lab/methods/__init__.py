"""The ideas: each method is a LightningModule composed from its parts."""

from ssl_lab.methods.base import Method
from ssl_lab.methods.flops import flops_per_image
from ssl_lab.methods.two_view import SimCLR, TwoView

__all__ = ["Method", "SimCLR", "TwoView", "flops_per_image"]
