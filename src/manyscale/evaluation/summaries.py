"""Transition: goes when runs/train.py imports it from manyscale.features.summaries."""

from manyscale.features.summaries import summaries

__all__ = ["summaries"]
