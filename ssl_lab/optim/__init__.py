"""Optimisation: parameter groups, rates and schedules."""

from ssl_lab.optim.recipe import OptimRecipe, parameter_groups

__all__ = ["OptimRecipe", "parameter_groups"]
