"""Losses: pure functions of the whole batch, tensors in and a scalar out."""

from ssl_lab.losses.contrastive import nt_xent

__all__ = ["nt_xent"]
