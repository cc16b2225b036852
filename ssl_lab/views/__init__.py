"""Batched augmentation on the device: images -> [view, …]; every sample draws its own parameters."""

from ssl_lab.views.crop import Geometry
from ssl_lab.views.policy import Policy
from ssl_lab.views.views import Views

__all__ = ["Geometry", "Policy", "Views"]
