"""Batched augmentation on the device: images -> [view, …]; every sample draws its own parameters."""

from ssl_lab.views.crop import Geometry, crop_nearest
from ssl_lab.views.policy import Policy
from ssl_lab.views.views import Views

__all__ = ["Geometry", "Policy", "Views", "crop_nearest"]
