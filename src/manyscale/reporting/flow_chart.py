"""The flow chart of a network as SVG, drawn from the model as built."""

from html import escape

from manyscale.model.summary import Summary
from manyscale.reporting.flow_layout import (
    LINE_HEIGHT,
    TEXT_SIZE,
    TITLE_SIZE,
    Arrow,
    Box,
    Page,
    lay_out,
)

__all__ = ["flow_chart"]

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
_FOOTER = 28


def flow_chart(summary: Summary) -> str:
    """Draw a network: a column a stream from its input down, fusion blocks, pooling, head.

    Solid arrows carry the data and the queries, dashed ones the contexts of a fusion block. An
    encoder that uses another stream's weights has a dashed edge and says whose.

    Returns
    -------
    str
        A whole SVG document that refers to nothing outside itself; names are escaped.
    """
    page = lay_out(summary)
    parts = [
        *(_arrow(arrow) for arrow in page.arrows),
        *(_box(box) for box in page.boxes),
        _text(
            page.width / 2,
            page.height + _FOOTER / 2,
            f"{summary.parameters:,} parameters in all",
            TITLE_SIZE,
            weight="bold",
        ),
    ]
    return "\n".join([_opening(page), *parts, "</svg>\n"])


def _opening(page: Page) -> str:
    width, height = page.width, page.height + _FOOTER
    marker = (
        '<marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" '
        f'markerUnits="userSpaceOnUse" orient="auto"><path d="M0 0L8 4L0 8z" fill="{_INK}"/></marker>'
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:g}" height="{height:g}" '
        f'viewBox="0 0 {width:g} {height:g}" role="img" '
        f'font-family="Arial, Helvetica, sans-serif">\n'
        f"<title>Flow chart of the network</title>\n<defs>{marker}</defs>\n"
        f'<rect width="100%" height="100%" fill="#ffffff"/>'
    )


def _arrow(arrow: Arrow) -> str:
    dashes = ' stroke-dasharray="5 4"' if arrow.role == "context" else ""
    points = " ".join(f"{x:g},{y:g}" for x, y in arrow.points)
    line = (
        f'<polyline points="{points}" fill="none" stroke="{_INK}" stroke-width="1.4"'
        f'{dashes} stroke-linejoin="round" marker-end="url(#head)"/>'
    )
    if not arrow.role:
        return line
    x, y = arrow.points[-1]
    return line + _text(x + 5, y - 10, arrow.role, 11, anchor="start")


def _box(box: Box) -> str:
    fill, edge = _COLOURS[box.block.kind]
    dashes = ' stroke-dasharray="4 3"' if box.block.shared_with else ""
    middle = box.x + box.width / 2
    first = box.y + box.height / 2 - LINE_HEIGHT * len(box.text) / 2
    lines = [
        (
            f'<rect x="{box.x:g}" y="{box.y:g}" width="{box.width:g}" height="{box.height:g}" rx="6" '
            f'fill="{fill}" stroke="{edge}" stroke-width="1.4"{dashes}/>'
        ),
        _text(middle, first, box.block.name, TITLE_SIZE, weight="bold"),
    ]
    lines += [
        _text(middle, first + LINE_HEIGHT * number, line, TEXT_SIZE)
        for number, line in enumerate(box.text, start=1)
    ]
    return "\n".join(lines)


def _text(
    x: float, y: float, words: str, size: int, *, weight: str = "normal", anchor: str = "middle"
) -> str:
    return (
        f'<text x="{x:g}" y="{y:g}" dy="0.35em" font-size="{size}" font-weight="{weight}" '
        f'text-anchor="{anchor}" fill="{_INK}">{escape(words)}</text>'
    )
