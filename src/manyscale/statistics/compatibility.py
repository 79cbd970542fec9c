"""Transition: goes when reporting/ imports `ks_test` from manyscale.statistics.ks_test."""

from manyscale.statistics.ks_test import ks_test as kolmogorov_smirnov

__all__ = ["kolmogorov_smirnov"]
