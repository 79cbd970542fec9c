"""TRANSITION: old names, for explanation_plots, map_plots and profile_plots until rewritten."""

from manyscale.reporting.figure import CLASS_NAMES  # noqa: F401
