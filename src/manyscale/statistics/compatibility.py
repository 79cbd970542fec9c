"""Transition: goes when reporting/ imports `KsTest`, `ks_test` from manyscale.statistics.ks_test."""

from manyscale.statistics.ks_test import KsTest as Compatibility
from manyscale.statistics.ks_test import ks_test as kolmogorov_smirnov

__all__ = ["Compatibility", "kolmogorov_smirnov"]
