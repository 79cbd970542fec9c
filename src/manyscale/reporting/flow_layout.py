"""Places the blocks of a network on a page: a column a stream, arrows that run between the boxes.

Boxes stand in a grid of rows (how far the data have come) and columns (streams). Arrows run down the
columns, along channels between the rows, and, where a box is in the way, down gutters between the
columns; so no arrow crosses a box.
"""

import textwrap
from collections import defaultdict
from dataclasses import dataclass
from itertools import pairwise

from manyscale.model.summary import Block, Summary

__all__ = ["Arrow", "Box", "Page", "lay_out"]

Point = tuple[float, float]

# All lengths in px of the drawing.
LINE_HEIGHT = 16
TITLE_SIZE = 13
TEXT_SIZE = 12
_CHARACTER = 0.6 * TEXT_SIZE  # wider than the letters of common sans-serif fonts are on average
_WRAP = 30  # characters
_PADDING = 12
_MARGIN = 16
_PORT = 62  # between two arrows that enter a box: room for the word "context"
_EXIT = 16  # between two arrows that leave a box
_LANE = 12  # between two arrows in a gutter
_GUTTER = 30
_TRACK = 10  # between two arrows in a channel
_ABOVE_TRACKS, _BELOW_TRACKS = 12, 30


@dataclass(frozen=True)
class Box:
    """A block on the page: its upper left corner, its size, and what it says below its name."""

    block: Block
    text: tuple[str, ...]
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Arrow:
    """The way from one block into another, corner by corner, and the part it plays there."""

    points: tuple[Point, ...]
    role: str


@dataclass(frozen=True)
class Page:
    """The whole drawing."""

    boxes: tuple[Box, ...]
    arrows: tuple[Arrow, ...]
    width: float
    height: float


@dataclass(frozen=True)
class _Edge:
    source: str
    target: str
    role: str


class _Grid:
    """Row and column of every block; a block that joins columns stands below all, in the middle."""

    def __init__(self, blocks: tuple[Block, ...]) -> None:
        self.row: dict[str, int] = {}
        self.column: dict[str, int | None] = {}
        self.columns = 0
        for block in blocks:
            self.column[block.name] = column = self._column_of(block)
            rows = self.row.values() if column is None else [self.row[i] for i in block.inputs]
            self.row[block.name] = 1 + max(rows, default=-1)
        self._taken = {(self.row[name], self.column[name]) for name in self.row}

    def _column_of(self, block: Block) -> int | None:
        if not block.inputs:
            self.columns += 1
            return self.columns - 1
        if len(block.inputs) == 1:
            return self.column[block.inputs[0]]
        asked = [i for i, role in zip(block.inputs, block.roles, strict=True) if role == "query"]
        return self.column[asked[0]] if asked else None

    def is_free(self, column: int | None, above: int, below: int) -> bool:
        """Whether no box of the column stands between the two rows."""
        return all((row, column) not in self._taken for row in range(above + 1, below))


class _Router:
    """Decides which way each arrow goes, then where exactly."""

    def __init__(self, blocks: tuple[Block, ...], grid: _Grid) -> None:
        self.grid = grid
        self.edges = [
            _Edge(source, block.name, role)
            for block in blocks
            for source, role in zip(block.inputs, block.roles, strict=True)
        ]
        #: Edges that must go down a gutter -> (gutter, lane); gutter i is left of column i.
        self.lanes: dict[_Edge, tuple[int, int]] = {}
        used: defaultdict[int, int] = defaultdict(int)
        for edge in self.edges:
            if self._needs_gutter(edge):
                gutter = self._gutter(edge)
                self.lanes[edge] = (gutter, used[gutter])
                used[gutter] += 1
        self.gutters = [_GUTTER + _LANE * used[gutter] for gutter in range(grid.columns + 1)]

    def _needs_gutter(self, edge: _Edge) -> bool:
        above, below = self.grid.row[edge.source], self.grid.row[edge.target]
        return not any(
            self.grid.is_free(self.grid.column[name], above, below)
            for name in (edge.source, edge.target)
        )

    def _gutter(self, edge: _Edge) -> int:
        source, target = self.grid.column[edge.source], self.grid.column[edge.target]
        start = source or 0
        middle = (self.grid.columns - 1) / 2
        return start if (middle if target is None else target) < start else start + 1

    def verticals(self, edge: _Edge, leave: float, enter: float, lane: float) -> list[float]:
        """The x of the vertical pieces of an arrow, from its source to its target."""
        if edge in self.lanes:
            return [leave, lane, enter]
        return [leave] if leave == enter else [leave, enter]

    def channels(self, edge: _Edge) -> list[int]:
        """The channels in which the arrow turns; channel i is below row i."""
        above, below = self.grid.row[edge.source], self.grid.row[edge.target] - 1
        if edge in self.lanes:
            return [above, below]
        source_free = self.grid.is_free(self.grid.column[edge.source], above, below + 1)
        return [below if source_free else above]


def lay_out(summary: Summary) -> Page:
    """Place every block and arrow of a network.

    Raises
    ------
    ValueError
        Where a block names as input a block that does not come before it.
    """
    _check_order(summary.blocks)
    grid = _Grid(summary.blocks)
    router = _Router(summary.blocks, grid)
    text = {block.name: _text(block) for block in summary.blocks}
    widths = {block.name: _box_width(block, text[block.name]) for block in summary.blocks}
    left, centre, page_width = _across(grid, router, widths)

    ways = _ways(router, centre, left)
    tracks = _tracks(router, ways)
    tops, heights = _down(grid, text, tracks)

    boxes = tuple(
        Box(
            block,
            text[block.name],
            centre[block.name] - widths[block.name] / 2,
            tops[grid.row[block.name]],
            widths[block.name],
            heights[grid.row[block.name]],
        )
        for block in summary.blocks
    )
    arrows = []
    for edge in router.edges:
        row = grid.row[edge.source]
        turns = [
            tops[channel]
            + heights[channel]
            + _ABOVE_TRACKS
            + _TRACK * tracks.get((edge, channel), 0)
            for channel in router.channels(edge)
        ]
        ends = (tops[row] + heights[row], tops[grid.row[edge.target]])
        arrows.append(Arrow(_corners(ways[edge], turns, ends), edge.role))
    return Page(boxes, tuple(arrows), page_width, tops[-1] + heights[-1] + _MARGIN)


def _check_order(blocks: tuple[Block, ...]) -> None:
    known: set[str] = set()
    for block in blocks:
        missing = [name for name in block.inputs if name not in known]
        if missing:
            raise ValueError(f"block '{block.name}' comes before its input '{missing[0]}'")
        known.add(block.name)


def _text(block: Block) -> tuple[str, ...]:
    lines = [*block.lines, f"out: {block.output}"]
    if block.shared_with:
        lines.append(f"weights of {block.shared_with}")
    elif block.parameters:
        lines.append(f"{block.parameters:,} parameters")
    return tuple(
        piece.replace(" x ", " × ").replace("->", "→")
        for line in lines
        for piece in textwrap.wrap(line, _WRAP)
    )


def _box_width(block: Block, text: tuple[str, ...]) -> float:
    """Room for the text, and for the arrows that come in."""
    widest = max(len(line) for line in (*text, block.name))
    return max(_CHARACTER * widest + 2 * _PADDING, _PORT * (len(block.inputs) + 0.5))


def _across(
    grid: _Grid, router: _Router, widths: dict[str, float]
) -> tuple[list[float], dict[str, float], float]:
    """Left edge of each column (and of the page's right margin), middle of each box, page width."""
    column_width = [0.0] * grid.columns
    for name, column in grid.column.items():
        if column is not None:
            column_width[column] = max(column_width[column], widths[name])
    joined = max((widths[n] for n, column in grid.column.items() if column is None), default=0.0)
    inner = sum(column_width) + sum(router.gutters)
    x = max(0.0, (joined + 2 * _MARGIN - inner) / 2)
    page = inner + 2 * x
    left = []
    for width, gutter in zip([*column_width, 0.0], router.gutters, strict=True):
        x += gutter
        left.append(x)
        x += width
    middles = [start + width / 2 for start, width in zip(left, column_width, strict=False)]
    # Right below a column that stands almost in the middle, so that its arrow is straight.
    near = [middle for middle in middles if abs(middle - page / 2) < _PORT / 2]
    centre = {}
    for name, column in grid.column.items():
        if column is None:
            centre[name] = near[0] if near else page / 2
        else:
            widths[name] = column_width[column]
            centre[name] = middles[column]
    return left, centre, page


def _ways(router: _Router, centre: dict[str, float], left: list[float]) -> dict[_Edge, list[float]]:
    """The x of the vertical pieces of every arrow."""
    enters = _entries(router, centre)
    leaves = _exits(router, centre, enters)
    ways = {}
    for edge in router.edges:
        gutter, lane = router.lanes.get(edge, (0, 0))
        lane_x = left[gutter] - router.gutters[gutter] + _GUTTER / 2 + _LANE * lane
        ways[edge] = router.verticals(edge, leaves[edge], enters[edge], lane_x)
    return ways


def _down(
    grid: _Grid, text: dict[str, tuple[str, ...]], tracks: dict[tuple[_Edge, int], int]
) -> tuple[list[float], list[float]]:
    """Top and height of each row."""
    rows = 1 + max(grid.row.values())
    heights = [0.0] * rows
    for name, lines in text.items():
        row = grid.row[name]
        heights[row] = max(heights[row], LINE_HEIGHT * (len(lines) + 1) + _PADDING)
    depth = [0] * rows
    for (_, channel), track in tracks.items():
        depth[channel] = max(depth[channel], track + 1)
    tops = [float(_MARGIN)]
    for height, used in zip(heights[:-1], depth[:-1], strict=True):
        tops.append(tops[-1] + height + _ABOVE_TRACKS + _TRACK * used + _BELOW_TRACKS)
    return tops, heights


def _entries(router: _Router, centre: dict[str, float]) -> dict[_Edge, float]:
    """Where each arrow enters its target: side by side, in the order of the sources."""
    coming: defaultdict[str, list[_Edge]] = defaultdict(list)
    for edge in router.edges:
        coming[edge.target].append(edge)
    places: dict[_Edge, float] = {}
    for target, edges in coming.items():
        edges.sort(key=lambda edge: centre[edge.source])
        for number, edge in enumerate(edges):
            places[edge] = centre[target] + _PORT * (number - (len(edges) - 1) / 2)
    return places


def _exits(
    router: _Router, centre: dict[str, float], enters: dict[_Edge, float]
) -> dict[_Edge, float]:
    """Where each arrow leaves its source: straight above where it enters, or beside that."""
    going: defaultdict[str, list[_Edge]] = defaultdict(list)
    for edge in router.edges:
        going[edge.source].append(edge)
    places: dict[_Edge, float] = {}
    for source, edges in going.items():
        straight = [e for e in edges if centre[e.target] == centre[source]]
        places |= {edge: enters[edge] for edge in straight}
        start = places[straight[0]] if straight else centre[source]
        for side in (-1, 1):
            aside = [e for e in edges if (centre[e.target] - centre[source]) * side > 0]
            aside.sort(key=lambda edge: router.grid.row[edge.target])
            first = 1 if straight or len(edges) > len(aside) else 0
            for number, edge in enumerate(aside, start=first):
                places[edge] = start + side * _EXIT * number
    return places


def _tracks(router: _Router, ways: dict[_Edge, list[float]]) -> dict[tuple[_Edge, int], int]:
    """Track of each horizontal piece in its channel: short ones on top, none over another."""
    pieces: defaultdict[int, list[tuple[float, float, _Edge]]] = defaultdict(list)
    for edge, way in ways.items():
        channels = router.channels(edge)
        for channel, (start, end) in zip(channels, pairwise(way), strict=False):
            pieces[channel].append((min(start, end), max(start, end), edge))
    tracks: dict[tuple[_Edge, int], int] = {}
    for channel, spans in pieces.items():
        occupied: list[list[tuple[float, float]]] = []
        for low, high, edge in sorted(spans, key=lambda span: span[1] - span[0]):
            track = next(
                (n for n, row in enumerate(occupied) if all(high < a or b < low for a, b in row)),
                len(occupied),
            )
            occupied[track:] = occupied[track:] or [[]]
            occupied[track].append((low, high))
            tracks[edge, channel] = track
    return tracks


def _corners(way: list[float], turns: list[float], ends: tuple[float, float]) -> tuple[Point, ...]:
    """Join vertical pieces at `way` by horizontal ones at `turns`."""
    points = [(way[0], ends[0])]
    for (here, there), height in zip(pairwise(way), turns, strict=False):
        points += [(here, height), (there, height)]
    points.append((way[-1], ends[1]))
    return tuple(points)
