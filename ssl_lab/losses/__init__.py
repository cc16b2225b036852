"""Losses: pure functions of the whole batch, tensors in and a scalar out."""

from ssl_lab.losses.classification import cross_entropy
from ssl_lab.losses.coding_rate import coding_rate, emp_ssl
from ssl_lab.losses.contrastive import nt_xent
from ssl_lab.losses.dense import soft_cross_entropy, squared_error
from ssl_lab.losses.info_nce import info_nce, moco_v3
from ssl_lab.losses.redundancy import barlow_twins, covariance_penalty, cross_correlation, variance_hinge, vicreg

__all__ = [
    "barlow_twins",
    "coding_rate",
    "covariance_penalty",
    "cross_correlation",
    "cross_entropy",
    "emp_ssl",
    "info_nce",
    "moco_v3",
    "nt_xent",
    "soft_cross_entropy",
    "squared_error",
    "variance_hinge",
    "vicreg",
]
