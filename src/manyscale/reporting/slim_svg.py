"""Takes out of an SVG drawing what no eye sees: matplotlib's are three times as large as needed."""

import re
from collections import Counter
from xml.etree import ElementTree as ET

__all__ = ["slim"]

_SVG = "{http://www.w3.org/2000/svg}"
_HREF = ("href", "{http://www.w3.org/1999/xlink}href")
_TEXTS = {f"{_SVG}text", f"{_SVG}tspan"}
_COORDINATES = ("d", "x", "y", "points", "x1", "x2", "y1", "y2", "width", "height")
_DECIMALS = re.compile(r"(-?\d+\.\d{3,})")
_UNTURNED = re.compile(r"rotate\(-?0(\.0*)? [^)]*\)")
_AROUND_COMMAND = re.compile(r"\s*([A-Za-z])\s*")
_AROUND_SIGN = re.compile(r"\s*([:;])\s*")
_FAMILY = re.compile(r"\s*font-family:\s*([^;]*);?")


def slim(root: ET.Element) -> None:
    """Make a drawing smaller in place; it looks the same.

    Coordinates are rounded to hundredths of a point; ids to which nothing refers, groups that say
    nothing, and white space go; the commonest font family is said once, by the root.

    Parameters
    ----------
    root
        The svg element.
    """
    wanted = _references(root)
    for element in root.iter():
        if element.get("id") not in wanted:
            element.attrib.pop("id", None)
        for name in _COORDINATES:
            if name in element.attrib:
                element.set(name, _rounded(element.attrib[name]))
        if "style" in element.attrib:
            element.set("style", _AROUND_SIGN.sub(r"\1", element.attrib["style"]))
        if _UNTURNED.fullmatch(element.get("transform", "")):
            del element.attrib["transform"]
        _trim(element)
    _say_family_once(root)
    _unwrap(root)


def _references(root: ET.Element) -> set[str]:
    """Ids that something in the drawing refers to."""
    found: set[str] = set()
    for element in root.iter():
        for name, value in element.attrib.items():
            if name in _HREF:
                found.add(value.removeprefix("#"))
            found.update(re.findall(r"url\(#([^)]+)\)", value))
    return found


def _rounded(text: str) -> str:
    short = _DECIMALS.sub(lambda number: f"{float(number[0]):.2f}".rstrip("0").rstrip("."), text)
    return _AROUND_COMMAND.sub(r"\1", short)


def _trim(element: ET.Element) -> None:
    """Drop the white space between elements; in words it means something."""
    if element.tag not in _TEXTS:
        element.text = (element.text or "").strip() or None
        for child in element:
            child.tail = None


def _say_family_once(root: ET.Element) -> None:
    families = Counter(
        found[1] for element in root.iter() if (found := _FAMILY.search(element.get("style", "")))
    )
    if not families:
        return
    (commonest, _), *_ = families.most_common(1)
    root.set("style", ";".join(filter(None, [root.get("style"), f"font-family:{commonest}"])))
    for element in root.iter():
        style = element.get("style", "")
        found = _FAMILY.search(style)
        if element is not root and found and found[1] == commonest:
            element.set("style", _FAMILY.sub("", style).strip())


def _unwrap(parent: ET.Element) -> None:
    """Put the children of groups without attributes in the place of these groups."""
    children: list[ET.Element] = []
    for child in parent:
        _unwrap(child)
        children += list(child) if child.tag == f"{_SVG}g" and not child.attrib else [child]
    parent[:] = children
