from itertools import combinations, pairwise
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manyscale.model.summary import Block, Summary
from manyscale.reporting.flow_chart import flow_chart, lay_out


def block(name, kind, inputs=(), roles=None, **more):
    roles = ("",) * len(inputs) if roles is None else roles
    plain = {"lines": (), "parameters": 0, "output": "tokens x 32"}
    return Block(name=name, kind=kind, inputs=tuple(inputs), roles=roles, **(plain | more))


def network(streams, fusion=(), shared=()):
    """The blocks of a network: fusion is a list of (query, contexts)."""
    blocks, latest = [], {}
    for name in streams:
        blocks.append(block(f"{name} input", "input", lines=("pt, eta, phi",)))
        whose = f"{shared[0]} encoder" if name in shared[1:] else ""
        size = 0 if whose else 17184
        latest[name] = f"{name} encoder"
        blocks.append(
            block(latest[name], "encoder", [f"{name} input"], parameters=size, shared_with=whose)
        )
    for number, (query, contexts) in enumerate(fusion, start=1):
        roles = ("query", *("context" for _ in contexts))
        inputs = [latest[name] for name in (query, *contexts)]
        latest[query] = f"fusion {number}"
        blocks.append(block(latest[query], "fusion", inputs, roles, parameters=9))
    queries = {query for query, _ in fusion}
    contexts = {name for _, contexts in fusion for name in contexts}
    pooled = [latest[name] for name in streams if name in queries or name not in contexts]
    blocks.append(block("pooling", "pooling", pooled))
    blocks.append(block("head", "head", ["pooling"], parameters=66))
    return Summary(blocks=tuple(blocks), parameters=sum(one.parameters for one in blocks))


THREE = ["jet1", "jet2", "kinematics"]
FIVE = ["jet1", "jet2", "jet3", "leptons", "objects"]
NETWORKS = {
    "model-1": network(["jet1"]),
    "model-2": network(THREE, [("kinematics", ["jet1", "jet2"])], shared=["jet1", "jet2"]),
    "model-3": network(["jet1", "kinematics"], [("kinematics", ["jet1"])]),
    "concatenation": network(THREE),
    "custom": network(
        FIVE, [("objects", FIVE[:4]), ("leptons", ["objects", "jet1"]), ("jet3", ["leptons"])]
    ),
}


@st.composite
def networks(draw):
    streams = [f"s{number}" for number in range(draw(st.integers(1, 6)))]
    fusion = []
    for _ in range(draw(st.integers(0, 4)) if len(streams) > 1 else 0):
        query, *contexts = draw(st.permutations(streams))
        fusion.append((query, contexts[: draw(st.integers(1, len(contexts)))]))
    return network(streams, fusion)


def assert_clean(page):
    for one, two in combinations(page.boxes, 2):
        apart_in_x = one.x + one.width <= two.x or two.x + two.width <= one.x
        apart_in_y = one.y + one.height <= two.y or two.y + two.height <= one.y
        assert apart_in_x or apart_in_y, (one.block.name, two.block.name)
    for arrow in page.arrows:
        for (x1, y1), (x2, y2) in pairwise(arrow.points):
            assert x1 == pytest.approx(x2) or y1 == pytest.approx(y2)
            for box in page.boxes:
                crosses_x = min(x1, x2) < box.x + box.width - 1 and max(x1, x2) > box.x + 1
                crosses_y = min(y1, y2) < box.y + box.height - 1 and max(y1, y2) > box.y + 1
                assert not (crosses_x and crosses_y), box.block.name
    for box in page.boxes:
        assert 0 <= box.x <= box.x + box.width <= page.width
        assert 0 <= box.y <= box.y + box.height <= page.height


def pieces(arrow):
    """The horizontal and vertical pieces of an arrow: (is horizontal, where, from, to)."""
    for (x1, y1), (x2, y2) in pairwise(arrow.points):
        if abs(x2 - x1) > 0.5:
            yield True, y1, min(x1, x2), max(x1, x2)
        elif abs(y2 - y1) > 0.5:
            yield False, x1, min(y1, y2), max(y1, y2)


def assert_apart(page):
    for one, two in combinations(page.arrows, 2):
        for flat, where, start, end in pieces(one):
            for other_flat, there, first, last in pieces(two):
                on_top = flat == other_flat and abs(where - there) < 2
                assert not (on_top and start < last and first < end), (one, two)


@pytest.mark.parametrize("name", NETWORKS)
def test_boxes_and_arrows_keep_apart(name):
    page = lay_out(NETWORKS[name])
    assert_clean(page)
    assert_apart(page)


@given(networks())
@settings(max_examples=150, deadline=None)
def test_any_network_is_drawn_without_overlaps(summary):
    page = lay_out(summary)
    assert_clean(page)
    assert_apart(page)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_arrow_goes_from_its_source_into_its_target(name):
    summary = NETWORKS[name]
    page = lay_out(summary)
    boxes = {box.block.name: box for box in page.boxes}
    edges = [(source, block.name) for block in summary.blocks for source in block.inputs]
    assert len(edges) == len(page.arrows)
    for (source, target), arrow in zip(edges, page.arrows, strict=True):
        start, end = arrow.points[0], arrow.points[-1]
        assert start[1] == boxes[source].y + boxes[source].height
        assert boxes[source].x < start[0] < boxes[source].x + boxes[source].width
        assert end[1] == boxes[target].y
        assert boxes[target].x < end[0] < boxes[target].x + boxes[target].width


def test_streams_stand_side_by_side_in_their_order():
    boxes = {box.block.name: box for box in lay_out(NETWORKS["custom"]).boxes}
    places = [boxes[f"{name} input"].x for name in FIVE]
    assert places == sorted(places)
    assert len({boxes[f"{name} input"].y for name in FIVE}) == 1


def test_says_shapes_parameters_roles_and_whose_weights():
    chart = flow_chart(NETWORKS["model-2"])
    words = " ".join(ET.fromstring(chart).itertext())  # noqa: S314
    assert "tokens × 32" in words
    assert "17,184 parameters" in words
    assert "34,443 parameters in all" in words
    assert "weights of jet1 encoder" in words
    assert words.count("query") == 1
    assert words.count("context") == 2
    lines = [line for line in chart.splitlines() if line.startswith("<polyline")]
    dashed = sum("dasharray" in line for line in lines)
    assert (dashed, len(lines)) == (2, 8)


def test_names_are_escaped():
    chart = flow_chart(network(['<script>alert("&")</script>']))
    assert "<script" not in chart
    assert any('alert("&")' in text for text in ET.fromstring(chart).itertext())  # noqa: S314
