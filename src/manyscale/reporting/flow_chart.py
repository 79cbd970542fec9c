"""The flow chart of a network as SVG, drawn from the model as built.

Boxes stand in a grid: a column a stream, a row for each thing that happens to it; each fusion block
has a row of its own, in the column of its query; what joins all streams stands below, in the middle.
An arrow leaves its source downwards, turns once above its target, and enters it from above. As a
stream's latest box has nothing below it in its column until its target, no arrow crosses a box.
"""

import textwrap
from collections import defaultdict
from html import escape
from typing import NamedTuple

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


def lay_out(summary: Summary) -> Chart:
    """Place every block and arrow of a network whose blocks each use the latest of a stream."""
    blocks = {block.name: block for block in summary.blocks}
    edges = [
        (source, block.name, role)
        for block in summary.blocks
        for source, role in zip(block.inputs, block.roles, strict=True)
    ]

    # Row and column; no column: in the middle.
    row: dict[str, int] = {}
    column: dict[str, int | None] = {}
    for block in summary.blocks:
        # What goes on with a stream stands in its column: its only input, or the query of fusion.
        before = [i for i, role in zip(block.inputs, block.roles, strict=True) if role == "query"]
        before = before or list(block.inputs)
        if not before:
            column[block.name] = sum(not blocks[name].inputs for name in row)
        else:
            column[block.name] = column[before[0]] if len(before) == 1 else None
        single = len(block.inputs) <= 1 and column[block.name] is not None
        rows = [row[name] for name in block.inputs] if single else row.values()
        row[block.name] = 1 + max(rows, default=-1)

    # All boxes are equally wide: the text, the arrows in and out of the fullest has room in each.
    text = {block.name: _text_of(block) for block in summary.blocks}
    incoming = {name: [e for e in edges if e[1] == name] for name in blocks}
    outgoing = {name: [e for e in edges if e[0] == name] for name in blocks}
    width = max(
        _CHARACTER * max(len(line) for name in blocks for line in (*text[name], name))
        + 2 * _PADDING,
        _PORT * max(map(len, incoming.values())) + 2 * _EXIT * max(map(len, outgoing.values())),
    )
    columns = 1 + max(place for place in column.values() if place is not None)
    page_width = columns * (width + _GAP) - _GAP + 2 * _MARGIN

    def centre(name: str) -> float:
        place = column[name]
        return page_width / 2 if place is None else _MARGIN + width / 2 + place * (width + _GAP)

    # Where arrows enter: side by side, in the order of their sources, so that none crosses another.
    enters: dict[tuple[str, str, str], float] = {}
    for name, coming in incoming.items():
        for number, edge in enumerate(sorted(coming, key=lambda edge: centre(edge[0]))):
            enters[edge] = centre(name) + _PORT * (number - (len(coming) - 1) / 2)

    # Where they leave: one right above where it enters the next box of its column, the others beside
    # it towards where they go, those that turn first outermost.
    leaves: dict[tuple[str, str, str], float] = {}
    for name, going in outgoing.items():
        straight = [edge for edge in going if centre(edge[1]) == centre(name)]
        leaves |= {edge: enters[edge] for edge in straight}
        start = enters[straight[0]] if straight else centre(name)
        for side in (-1, 1):
            aside = [edge for edge in going if side * (centre(edge[1]) - centre(name)) > 0]
            aside.sort(key=lambda edge: -row[edge[1]])
            alone = len(aside) == len(going)
            for number, edge in enumerate(aside, start=0 if alone else 1):
                leaves[edge] = start + side * _EXIT * number

    # The track of each horizontal piece above its target: inner ones higher, so that none lies on
    # another. Those from the left and from the right do not meet.
    track: dict[tuple[str, str, str], int] = {}
    for coming in incoming.values():
        for side in (-1, 1):
            turning = [edge for edge in coming if side * (leaves[edge] - enters[edge]) > 0]
            turning.sort(key=lambda edge: side * leaves[edge])
            track |= {edge: number for number, edge in enumerate(turning)}

    # From the top down: each row as high as its fullest box, below it room for its tracks.
    heights: defaultdict[int, float] = defaultdict(float)
    tracks: defaultdict[int, int] = defaultdict(int)
    for name, lines in text.items():
        heights[row[name]] = max(heights[row[name]], _LINE * (len(lines) + 1) + _PADDING)
        used = [1 + track[edge] for edge in incoming[name] if edge in track]
        tracks[row[name]] = max([tracks[row[name]], *used])
    tops = [float(_MARGIN)]
    for number in range(1, len(heights)):
        room = _ABOVE_TRACKS + _TRACK * tracks[number] + _BELOW_TRACKS
        tops.append(tops[-1] + heights[number - 1] + room)

    boxes = tuple(
        Box(block, text[name], centre(name) - width / 2, tops[row[name]], width, heights[row[name]])
        for name, block in blocks.items()
    )
    arrows = []
    for edge in edges:
        source, target, role = edge
        start, end = leaves[edge], enters[edge]
        corners = []
        if edge in track:
            above = tops[row[target] - 1] + heights[row[target] - 1]
            turn = above + _ABOVE_TRACKS + _TRACK * track[edge]
            corners = [(start, turn), (end, turn)]
        first = (start, tops[row[source]] + heights[row[source]])
        arrows.append(Arrow((first, *corners, (end, tops[row[target]])), role))
    height = tops[-1] + heights[len(tops) - 1] + _MARGIN
    return Chart(boxes, tuple(arrows), page_width, height)


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
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:g}" height="{height:g}" '
        f'viewBox="0 0 {width:g} {height:g}" role="img" '
        'font-family="Arial, Helvetica, sans-serif">',
        "<title>Flow chart of the network</title>",
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" '
        'markerHeight="8" markerUnits="userSpaceOnUse" orient="auto">'
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
        f'text-anchor="{anchor}" fill="{_INK}">{escape(words)}</text>'
    )
