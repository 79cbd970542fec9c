"""Transition: goes when explanation/ imports these from manyscale.statistics.sample."""

from manyscale.statistics.sample import Mean, variance_of_mean, weighted_mean

__all__ = ["Mean", "variance_of_mean", "weighted_mean"]
