from manyscale.reporting.captions import SECTIONS, caption_of, section_of
from manyscale.reporting.plot_figures import figures_by_section

SVG = '<svg xmlns="http://www.w3.org/2000/svg"><text>x</text></svg>'


def test_plots_stand_in_their_sections():
    names = ["roc", "limit_mu", "attention_maps_a_b", "comparison_roc", "significance", "of a user"]
    sections = figures_by_section(dict.fromkeys(names, SVG), {})
    assert tuple(sections) == SECTIONS
    assert {section: [f.name for f in figures] for section, figures in sections.items()} == {
        "figures": ["roc"],
        "significance": ["significance"],
        "limits": ["limit_mu"],
        "explanations": ["attention_maps_a_b"],
        "comparison": ["comparison_roc"],
        "plots": ["of a user"],
    }


def test_a_caption_names_what_its_plot_is_of_whatever_that_is_called():
    assert "stream {x}" in caption_of("image_{x}")
    assert section_of("limit_brazil_{rest}") == "limits"
    assert caption_of("of a user") == "of a user"


def test_a_small_table_is_whole_and_its_rows_are_counted():
    table = 'a,b\r\n"x\ny",1\r\nz,2\r\n'
    (figure,) = figures_by_section({"roc": SVG}, {"roc": table})["figures"]
    assert (figure.numbers, figure.rows, figure.cut) == (table, 2, False)


def test_a_plot_without_numbers_has_none():
    (figure,) = figures_by_section({"roc": SVG}, {})["figures"]
    assert (figure.numbers, figure.rows, figure.cut) == ("", 0, False)


def test_of_tables_beyond_what_a_page_carries_the_first_rows_are_kept():
    large = "a\n" + "1234567\n" * 400_000
    sections = figures_by_section(
        dict.fromkeys(["roc", "scores"], SVG), {"roc": large, "scores": "a\n1\n"}
    )
    roc, scores = sections["figures"]
    assert (roc.rows, roc.cut, len(roc.numbers.split())) == (400_000, True, 201)
    assert not scores.cut
