# TRANSITION: for explanation_plots, map_plots and profile_plots until they are rewritten.
from manyscale.reporting.figure import CLASS_COLOURS, styled  # noqa: F401
