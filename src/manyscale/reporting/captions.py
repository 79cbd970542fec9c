"""What stands below each plot of the report, and the order in which they stand."""

from collections.abc import Iterable

__all__ = ["COMPARISON_PLOT", "caption_of", "in_order"]

#: Name of the plot that belongs to the table of several classifiers.
COMPARISON_PLOT = "comparison_roc"

_INPUTS = "inputs_"
_IMAGE = "image_"
_CAPTIONS = {
    "roc": "Background rejection against signal efficiency on the test events. A rejection of 100 "
    "means that one background event in 100 passes. Bands: 68% intervals of the background "
    "efficiency from effective event counts; a curve ends where no background event is left.",
    "scores": "Scores of the training events (filled) and of the test events (points), each class "
    "with unit area. KS: largest distance between the two distributions, with its p-value; "
    "a small p-value is a sign of over-training.",
    "history": "Loss and validation AUC after each epoch. The weights of the epoch with the lowest "
    "validation loss (dotted line) are those that were kept.",
    "confusion": "Where the test events of each true class go when the cut is at a signal "
    "probability of one half. Each row sums to 100%.",
    COMPARISON_PLOT: "All classifiers on the same test events. Bands: 68% intervals of the "
    "background efficiency; the events being the same, the bands move together.",
}


def caption_of(plot: str) -> str:
    """Explain a plot by its name; a name that is not known explains itself."""
    if plot.startswith(_INPUTS):
        stream = plot.removeprefix(_INPUTS)
        return (
            f"Inputs of the stream {stream} by class, each class with unit area over the stream's "
            f"tokens, best separation first. The outermost 0.5% on either side are not shown."
        )
    if plot.startswith(_IMAGE):
        stream = plot.removeprefix(_IMAGE)
        return (
            f"Mean image of the stream {stream} in the test events of each class, and the difference "
            f"of both over their sum: 1 where only signal is, -1 where only background is. Pixels "
            f"that fewer than ten tokens hit have no difference. Each process counts by its share "
            f"of the class."
        )
    return _CAPTIONS.get(plot, plot)


def in_order(plots: Iterable[str]) -> list[str]:
    """Order plots as a reader wants them: results, then training, inputs, images, then the rest."""
    known = list(_CAPTIONS)

    def place(plot: str) -> tuple[int, str]:
        if plot in _CAPTIONS:
            return known.index(plot), plot
        families = [plot.startswith(_INPUTS), plot.startswith(_IMAGE), True]
        return len(known) + families.index(True), plot

    return sorted(plots, key=place)
