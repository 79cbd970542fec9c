import pytest

from manyscale.events.bookkeeping import Bookkeeping, CutStep


def _part(generated, cross_section, error, passed):
    cutflow = (CutStep("generated", generated, 2.0 * generated), CutStep("cut", passed, 1.5))
    return Bookkeeping(generated, 2.0 * generated, 4.0 * generated, cross_section, error, cutflow)


def test_parts_add_up():
    total = Bookkeeping.combine([_part(300, 10.0, 0.3, 200), _part(100, 12.0, 0.4, 60)])
    assert (total.generated, total.sum_weights, total.sum_weights2) == (400, 800.0, 1600.0)
    assert total.cross_section == pytest.approx(10.5)
    assert total.cross_section_error == pytest.approx((0.225**2 + 0.1**2) ** 0.5)
    assert total.cutflow == (CutStep("generated", 400, 800.0), CutStep("cut", 260, 3.0))


def test_one_part_is_itself():
    part = _part(300, 10.0, 0.3, 200)
    assert Bookkeeping.combine([part]) == part
