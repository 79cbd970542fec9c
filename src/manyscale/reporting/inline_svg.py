"""Makes an SVG file fit to stand inside a page: no names that clash, no styles that leak."""

import re
from collections.abc import Mapping
from xml.etree import ElementTree as ET

from manyscale.errors import RunError
from manyscale.reporting.slim_svg import slim

__all__ = ["inline_svg"]

_SVG = "{http://www.w3.org/2000/svg}"
_XLINK_HREF = "{http://www.w3.org/1999/xlink}href"
_URL = re.compile(r"url\(#([^)]+)\)")
_POINTS = 4 / 3  # px


def inline_svg(document: str, prefix: str) -> str:
    """Rewrite an SVG document as an element of an HTML page.

    Every id that is referred to gets the prefix and a number; a style sheet becomes the style of
    the drawing alone; scripts, metadata and links out of it go; the size becomes a largest width. It
    is made small by `slim`.

    Parameters
    ----------
    document
        A whole SVG file.
    prefix
        Unique in the page; letters, digits, hyphens.

    Raises
    ------
    RunError
        Where the document is not SVG.

    Examples
    --------
    >>> inline_svg('<svg xmlns="http://www.w3.org/2000/svg"><path id="a" d="M0 1.2345"/></svg>', "p")
    '<svg xmlns="http://www.w3.org/2000/svg" style=""><path d="M0 1.23" /></svg>'
    """
    ET.register_namespace("", _SVG[1:-1])
    try:
        root = ET.fromstring(document)  # noqa: S314 - a file of the run, and entities are not resolved
    except ET.ParseError as error:
        raise RunError(f"the plot {prefix} is not SVG ({error}): draw it again") from error
    styles = [_own_style(root)]
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag == f"{_SVG}style":
                styles += re.findall(r"\*\s*\{([^}]*)\}", child.text or "")
            if child.tag in {f"{_SVG}style", f"{_SVG}metadata", f"{_SVG}script"}:
                parent.remove(child)
    root.set("style", ";".join(style for style in styles if style))
    slim(root)
    found = (element.get("id") for element in root.iter())
    names = {name: f"{prefix}-{n}" for n, name in enumerate(dict.fromkeys(filter(None, found)))}
    for element in root.iter():
        _rename(element, names)
    return ET.tostring(root, encoding="unicode")


def _own_style(root: ET.Element) -> str:
    """The drawing's width as CSS, in place of its fixed size."""
    root.attrib.pop("height", None)
    size = re.fullmatch(r"([0-9.]+)(pt|px)?", root.attrib.pop("width", ""))
    if size is None:
        return ""
    width = float(size[1]) * (_POINTS if size[2] == "pt" else 1)
    return f"--width:{width:.0f}px"


def _rename(element: ET.Element, names: Mapping[str, str]) -> None:
    """Give the element its new id, and those it refers to; what refers elsewhere goes."""
    target = element.attrib.pop(_XLINK_HREF, None)
    if target is not None:
        element.set("href", target)
    for name, value in list(element.attrib.items()):
        if name == "id":
            element.set(name, names[value])
        elif name == "href" and value.removeprefix("#") in names:
            element.set(name, f"#{names[value.removeprefix('#')]}")
        elif (name == "href" and not value.startswith("data:image/")) or name.startswith("on"):
            del element.attrib[name]
        else:
            element.set(name, _URL.sub(lambda url: f"url(#{names.get(url[1], '')})", value))
