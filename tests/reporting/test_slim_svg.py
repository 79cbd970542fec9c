from xml.etree import ElementTree as ET

from manyscale.reporting.slim_svg import slim

NAMESPACE = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'


def slimmed(inside):
    root = ET.fromstring(f"<svg {NAMESPACE}>{inside}</svg>")  # noqa: S314 - our own text
    slim(root)
    return ET.tostring(root, encoding="unicode").replace("ns0:", "")


def test_coordinates_are_rounded_and_scales_are_not():
    drawing = slimmed('<path d="M 1.23456 -7.0001 \n L 10 20.999 z" transform="scale(0.015625)"/>')
    assert 'd="M1.23 -7L10 21z"' in drawing
    assert "scale(0.015625)" in drawing


def test_a_turn_by_nothing_goes_and_another_stays():
    assert "rotate" not in slimmed('<text transform="rotate(-0 10.5 20)">a</text>')
    assert "rotate(-90 10.5 20)" in slimmed('<text transform="rotate(-90 10.5 20)">a</text>')


def test_groups_that_say_nothing_are_unwrapped_in_order():
    drawing = slimmed(
        '<g id="a"><g><path d="M1"/></g> <path d="M2"/></g><g opacity="0.5"><path d="M3"/></g>'
    )
    assert "<g" in drawing
    assert drawing.count("<g") == 1
    assert [drawing.index(f"M{n}") for n in (1, 2, 3)] == sorted(
        drawing.index(f"M{n}") for n in (1, 2, 3)
    )


def test_ids_stay_where_something_refers_to_them():
    drawing = slimmed(
        '<clipPath id="c"/><path id="p"/><path id="q"/><g clip-path="url(#c)"><use xlink:href="#p"/></g>'
    )
    assert 'id="c"' in drawing
    assert 'id="p"' in drawing
    assert 'id="q"' not in drawing


def test_words_keep_their_blanks():
    assert "<text>a <tspan> b</tspan> c</text>" in slimmed("<text>a <tspan> b</tspan> c</text>")


def test_the_commonest_font_is_said_once():
    text = '<text style="font-size: 9px; font-family: Heros, serif; fill: red">a</text>'
    other = '<text style="font-family: Mono">b</text>'
    drawing = slimmed(2 * text + other)
    assert drawing.count("Heros") == 1
    assert 'style="font-size:9px;fill:red"' in drawing
    assert "font-family:Mono" in drawing
