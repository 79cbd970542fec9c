from manyscale.data.schema import CutflowStep, Process
from manyscale.reporting.wording import cutflow


def _process(sum_weights):
    step = CutflowStep(step="two jets", events=900, sum_weights=5.0)
    return Process(
        name="qcd", label="background", generated=1000, sum_weights=sum_weights, cutflow=(step,)
    )


def test_shares_of_the_cutflow_are_by_weight_where_weights_are_known():
    assert cutflow((_process(50.0), _process(None))) == [
        ("two jets", ["900 (10.0%)", "900 (90.0%)"])
    ]
