# TRANSITION: for explanation_plots, map_plots and profile_plots until they are rewritten.
from manyscale.reporting.figure import Drawn, stacked  # noqa: F401
