# TRANSITION: for map_plots and profile_plots until they are rewritten.
from manyscale.reporting.figure import CLASS_NAMES  # noqa: F401
