"""The flow chart of a network as SVG, drawn from the model as built.

Boxes stand in a grid: a column a stream, a row for each thing that happens to it; each fusion block
has a row of its own, in the column of its query; what joins all streams stands below, in the middle.
An arrow leaves its source downwards, turns once above its target, and enters it from above. As a
stream's latest box has nothing below it in its column until its target, no arrow crosses a box.
"""

import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from math import copysign
from typing import NamedTuple

from manyscale.errors import printable
from manyscale.model.summary import Block, Summary

__all__ = ["Arrow", "Box", "Chart", "flow_chart", "lay_out"]

# Fill and edge of each kind of block; the words in the boxes carry the meaning, colour only helps.
_COLOURS = {
    "input": ("#eef2f6", "#717581"),
    "embedding": ("#e3effb", "#3f90da"),
    "encoder": ("#cfe3f7", "#2b6ca8"),
    "fusion": ("#fdebc8", "#c47f00"),
    "pooling": ("#ece0f1", "#832db6"),
    "head": ("#f8dcd6", "#bd1f01"),
}
_INK = "#1d2430"

# All lengths in px.
_LINE = 16
_TITLE_SIZE, _TEXT_SIZE, _ROLE_SIZE = 13, 12, 11
_CHARACTER = 0.6 * _TEXT_SIZE  # wider than the letters of common sans-serif fonts are on average
_WRAP = 30  # characters
_PADDING = 12
_MARGIN = 16
_GAP = 30  # between columns
_PORT = 54  # between two arrows that enter a box: room for the word "context"
_EXIT = 16  # between two arrows that leave a box
_TRACK = 10  # between two horizontal pieces above a box
_ABOVE_TRACKS, _BELOW_TRACKS = 12, 30


class Box(NamedTuple):
    """A block on the chart: its upper left corner, its size, and what it says below its name."""

    block: Block
    text: tuple[str, ...]
    x: float
    y: float
    width: float
    height: float


class Arrow(NamedTuple):
    """The way from one block into another, corner by corner, and the part it plays there."""

    points: tuple[tuple[float, float], ...]
    role: str


class Chart(NamedTuple):
    """The whole drawing."""

    boxes: tuple[Box, ...]
    arrows: tuple[Arrow, ...]
    width: float
    height: float


class _Edge(NamedTuple):
    source: str
    target: str
    role: str


def lay_out(summary: Summary) -> Chart:
    """Place every block and arrow of a network whose blocks each use the latest of a stream."""
    blocks = {block.name: block for block in summary.blocks}
    edges = [
        _Edge(source, block.name, role)
        for block in summary.blocks
        for source, role in zip(block.inputs, block.roles, strict=True)
    ]
    row, column = _grid(summary.blocks)

    # All boxes are equally wide: the longest text and the most arrows have room in each.
    text = {block.name: _text_of(block) for block in summary.blocks}
    longest = max(len(line) for name in blocks for line in (*text[name], name))
    most_in = max(Counter(edge.target for edge in edges).values(), default=0)
    most_out = max(Counter(edge.source for edge in edges).values(), default=0)
    width = max(_CHARACTER * longest + 2 * _PADDING, _PORT * most_in + 2 * _EXIT * most_out)
    columns = 1 + max(number for number in column.values() if number is not None)
    page_width = columns * (width + _GAP) - _GAP + 2 * _MARGIN
    centre = {
        name: page_width / 2 if number is None else _MARGIN + width / 2 + number * (width + _GAP)
        for name, number in column.items()
    }

    # From the top down: each row as high as its fullest box, above it room for its tracks.
    leaves, enters = _ends(edges, row, centre)
    track = _tracks(edges, leaves, enters)
    heights = [0.0] * (1 + max(row.values()))
    for name, lines in text.items():
        heights[row[name]] = max(heights[row[name]], _LINE * (len(lines) + 1) + _PADDING)
    tops = [float(_MARGIN)]
    for number, height in enumerate(heights[:-1], start=1):
        used = max((1 + n for edge, n in track.items() if row[edge.target] == number), default=0)
        tops.append(tops[-1] + height + _ABOVE_TRACKS + _TRACK * used + _BELOW_TRACKS)

    boxes = tuple(
        Box(block, text[name], centre[name] - width / 2, tops[row[name]], width, heights[row[name]])
        for name, block in blocks.items()
    )
    arrows = []
    for edge in edges:
        start, end = leaves[edge], enters[edge]
        above, below = row[edge.source], row[edge.target]
        points = [(start, tops[above] + heights[above]), (end, tops[below])]
        if edge in track:
            turn = tops[below - 1] + heights[below - 1] + _ABOVE_TRACKS + _TRACK * track[edge]
            points[1:1] = [(start, turn), (end, turn)]
        arrows.append(Arrow(tuple(points), edge.role))
    return Chart(boxes, tuple(arrows), page_width, tops[-1] + heights[-1] + _MARGIN)


def _grid(blocks: Sequence[Block]) -> tuple[dict[str, int], dict[str, int | None]]:
    """Row and column of each block; no column: in the middle, below all."""
    row: dict[str, int] = {}
    column: dict[str, int | None] = {}
    streams = 0
    for block in blocks:
        # What goes on with a stream stands in its column: its only input, or the query of fusion.
        queries = [i for i, role in zip(block.inputs, block.roles, strict=True) if role == "query"]
        before = queries or block.inputs
        if not before:
            column[block.name], streams = streams, streams + 1
        else:
            column[block.name] = column[before[0]] if len(before) == 1 else None
        # Below its input alone, or, where columns are joined, below all that is there.
        alone = len(block.inputs) <= 1 and column[block.name] is not None
        rows = [row[name] for name in block.inputs] if alone else row.values()
        row[block.name] = 1 + max(rows, default=-1)
    return row, column


def _ends(
    edges: Sequence[_Edge], row: Mapping[str, int], centre: Mapping[str, float]
) -> tuple[dict[_Edge, float], dict[_Edge, float]]:
    """Where arrows leave and enter, x in px."""
    enters: dict[_Edge, float] = {}
    leaves: dict[_Edge, float] = {}
    for name, middle in centre.items():
        # Side by side in the order of their sources, so that none crosses another.
        coming = sorted((e for e in edges if e.target == name), key=lambda e: centre[e.source])
        for number, edge in enumerate(coming):
            enters[edge] = middle + _PORT * (number - (len(coming) - 1) / 2)
    for name, middle in centre.items():
        # One right above where it enters the next box of its column, the others beside it towards
        # where they go, those that turn first outermost.
        going = sorted((e for e in edges if e.source == name), key=lambda e: -row[e.target])
        straight = [edge for edge in going if centre[edge.target] == middle]
        start = enters[straight[0]] if straight else middle
        leaves |= dict.fromkeys(straight, start)
        for side in (-1, 1):
            aside = [edge for edge in going if side * (centre[edge.target] - middle) > 0]
            first = 0 if len(aside) == len(going) else 1
            for number, edge in enumerate(aside, start=first):
                leaves[edge] = start + side * _EXIT * number
    return leaves, enters


def _tracks(
    edges: Sequence[_Edge], leaves: Mapping[_Edge, float], enters: Mapping[_Edge, float]
) -> dict[_Edge, int]:
    """Track of each horizontal piece above its target; straight arrows have none.

    Inner ones run higher, so that none lies on another; those from the left and from the right do
    not meet.
    """
    track: dict[_Edge, int] = {}
    used: Counter[tuple[str, float]] = Counter()
    for edge in sorted(edges, key=lambda edge: abs(leaves[edge] - enters[edge])):
        if leaves[edge] != enters[edge]:
            side = copysign(1, leaves[edge] - enters[edge])
            track[edge] = used[edge.target, side]
            used[edge.target, side] += 1
    return track


def _text_of(block: Block) -> tuple[str, ...]:
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


def flow_chart(summary: Summary) -> str:
    """Draw a network: a column a stream from its input down, fusion blocks, pooling, head.

    Solid arrows carry the data and the queries, dashed ones the contexts of a fusion block. An
    encoder that uses another stream's weights has a dashed edge and says whose.

    Returns
    -------
    str
        A whole SVG document that refers to nothing outside itself; names are escaped.
    """
    chart = lay_out(summary)
    width, height = chart.width, chart.height + 1.5 * _LINE
    size = f'width="{width:g}" height="{height:g}" viewBox="0 0 {width:g} {height:g}"'
    font = 'font-family="Arial, Helvetica, sans-serif"'
    marker = 'viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" {font}>',
        "<title>Flow chart of the network</title>",
        f'<defs><marker id="head" {marker} markerUnits="userSpaceOnUse">',
        f'<path d="M0 0L8 4L0 8z" fill="{_INK}"/></marker></defs>',
        '<rect width="100%" height="100%" fill="#ffffff"/>',
    ]
    for points, role in chart.arrows:
        dashes = ' stroke-dasharray="5 4"' if role == "context" else ""
        path = " ".join(f"{x:g},{y:g}" for x, y in points)
        parts.append(
            f'<polyline points="{path}" fill="none" stroke="{_INK}" stroke-width="1.4"'
            f'{dashes} stroke-linejoin="round" marker-end="url(#head)"/>'
        )
        if role:
            x, y = points[-1]
            parts.append(_words(x + 5, y - 10, role, _ROLE_SIZE, anchor="start"))
    for block, text, x, y, wide, high in chart.boxes:
        fill, edge = _COLOURS[block.kind]
        dashes = ' stroke-dasharray="4 3"' if block.shared_with else ""
        parts.append(
            f'<rect x="{x:g}" y="{y:g}" width="{wide:g}" height="{high:g}" rx="6" '
            f'fill="{fill}" stroke="{edge}" stroke-width="1.4"{dashes}/>'
        )
        first = y + high / 2 - _LINE * len(text) / 2
        parts.append(_words(x + wide / 2, first, block.name, _TITLE_SIZE, weight="bold"))
        for number, line in enumerate(text, start=1):
            parts.append(_words(x + wide / 2, first + _LINE * number, line, _TEXT_SIZE))
    total = f"{summary.parameters:,} parameters in all"
    parts.append(_words(width / 2, height - _LINE, total, _TITLE_SIZE, weight="bold"))
    return "\n".join([*parts, "</svg>\n"])


def _words(
    x: float, y: float, words: str, size: int, *, weight: str = "normal", anchor: str = "middle"
) -> str:
    return (
        f'<text x="{x:g}" y="{y:g}" dy="0.35em" font-size="{size}" font-weight="{weight}" '
        f'text-anchor="{anchor}" fill="{_INK}">{escape(printable(words))}</text>'
    )
