"""How an explanation sees, and changes, what passes through the network in a forward pass.

`network(batch, taps)` calls the methods of `Taps` at every place named by a `Place`. An explanation is a
subclass that overrides what it needs; the class itself leaves everything as it is.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

from torch import Tensor

from manyscale.model.attention import AttentionWeights
from manyscale.model.layout import Layout

__all__ = ["NO_TAPS", "Part", "Place", "Taps"]

Part = Literal["embedding", "self-attention", "cross-attention", "layer", "output", "pooled"]


class Place(NamedTuple):
    """Where in the network rows or attention weights are.

    Attributes
    ----------
    stream
        Whose rows they are; of attention, the stream of the queries.
    block
        0 in the encoder of the stream, else the number of the fusion block, from 1.
    layer
        Number of the layer in encoder or block, from 1; 0 for what belongs to no layer.
    part
        Rows: after the `embedding`, after the `cross-attention` of a fusion layer, after a whole
        `layer`, the `output` of encoder or block, the class tokens as `pooled`. Weights: those of a
        `self-attention` or `cross-attention`.
    context
        The streams of the keys of cross-attention, in their order; empty for self-attention.
    heads
        Of an attention.
    """

    stream: str
    block: int = 0
    layer: int = 0
    part: Part = "layer"
    context: tuple[str, ...] = ()
    heads: int = 0

    @property
    def name(self) -> str:
        """Say it in words.

        Examples
        --------
        >>> Place("kinematics", 1, 1, "cross-attention", ("jet1", "jet2"), 2).name
        'kinematics to jet1, jet2, fusion block 1, layer 1'
        >>> Place("jet1", 0, 2, "self-attention", heads=2).name
        'jet1 to itself, encoder, layer 2'
        """
        towards = ", ".join(self.context) or "itself"
        where = f"fusion block {self.block}" if self.block else "encoder"
        return f"{self.stream} to {towards}, {where}, layer {self.layer}"


class Taps:
    """Leaves a forward pass as it is; subclasses look into it, or change it."""

    def inputs(self, stream: str, rows: Tensor, layout: Layout) -> Tensor:
        """Replace what the embedding of a stream is given.

        Parameters
        ----------
        rows
            (rows, inputs): of tokens the numbers, then the classes one-hot, in the extractor's order,
            and 0; of class tokens all zero but for the last, 1.
        layout
            Says which rows are class tokens (`class_rows`) and which tokens (`token_rows`).
        """
        del stream, layout
        return rows

    def rows(self, place: Place, rows: Tensor, layout: Layout) -> Tensor:
        """Replace rows (rows, width), or (events, width) where only class tokens are worked out."""
        del place, layout
        return rows

    def weights(self, place: Place) -> Callable[[AttentionWeights], None] | None:
        """Return what is to be given the attention weights at a place; None: they are not wanted."""
        del place
        return None


NO_TAPS = Taps()
