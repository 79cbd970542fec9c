"""Transition: goes when card/settings.py imports it from manyscale.evaluation.limits."""

from manyscale.evaluation.limits import LimitSettings

__all__ = ["LimitSettings"]
