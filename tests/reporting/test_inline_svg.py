from manyscale.reporting.inline_svg import inline_svg

DOCUMENT = """<?xml version="1.0"?>
<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "http://www.w3.org/Graphics/SVG/1.1/DTD/svg11.dtd">
<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="300pt"
 height="200pt" viewBox="0 0 300 200" onload="alert(1)">
<metadata>who</metadata><script>alert(1)</script>
<defs><style type="text/css">*{stroke-linejoin: round}</style><clipPath id="c"/></defs>
<g clip-path="url(#c)"><use xlink:href="#c"/></g>
<image xlink:href="data:image/png;base64,AAAA"/><a href="http://example.org/"><text id="t">m &lt; 5</text></a>
</svg>"""


def test_ids_and_what_refers_to_them_get_the_prefix():
    drawing = inline_svg(DOCUMENT, "plot-3")
    assert 'id="plot-3-0"' in drawing
    assert "url(#plot-3-0)" in drawing
    assert 'href="#plot-3-0"' in drawing
    assert drawing.count("id=") == 1  # nothing refers to the others


def test_what_would_leak_into_the_page_or_out_of_it_goes():
    drawing = inline_svg(DOCUMENT, "p")
    for word in ("<style", "<script", "metadata", "onload", "example.org", "DOCTYPE"):
        assert word not in drawing
    assert "m &lt; 5" in drawing
    assert '<image href="data:image/png;base64,AAAA"' in drawing


def test_style_and_width_become_the_drawings_own():
    drawing = inline_svg(DOCUMENT, "p")
    assert 'style="--width:400px;stroke-linejoin:round"' in drawing
    assert 'viewBox="0 0 300 200"' in drawing
    assert "height=" not in drawing
