from manyscale.events.bookkeeping import CutStep, add_cutflows


def test_cutflows_of_the_same_steps_add_up():
    one = (CutStep("generated", 300, 600.0), CutStep("cut", 200, 1.5))
    other = (CutStep("generated", 100, 200.0), CutStep("cut", 60, 1.5))
    assert add_cutflows([one, other]) == (
        CutStep("generated", 400, 800.0),
        CutStep("cut", 260, 3.0),
    )
    assert add_cutflows([one]) == one
