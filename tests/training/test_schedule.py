import pytest
from hypothesis import given
from hypothesis import strategies as st

from manyscale.training.schedule import TrainingSettings, learning_rate, total_steps


@given(
    steps=st.integers(1, 2000),
    warmup=st.floats(0, 0.99),
    highest=st.floats(1e-6, 1.0),
)
def test_learning_rate_rises_then_falls_and_stays_within_bounds(steps, warmup, highest):
    settings = TrainingSettings(learning_rate=highest, warmup=warmup)
    rates = [learning_rate(step, steps, settings) for step in range(steps)]
    assert all(0 < rate <= highest * (1 + 1e-12) for rate in rates)
    top = rates.index(max(rates))
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)


def test_steps_end_with_the_epochs_or_with_max_steps():
    assert total_steps(TrainingSettings(epochs=3, batch_size=10), 25) == 9
    assert total_steps(TrainingSettings(epochs=3, batch_size=10, max_steps=4), 25) == 4
    assert total_steps(TrainingSettings(epochs=1, batch_size=10, max_steps=40), 25) == 3


def test_short_runs_reach_the_highest_rate():
    settings = TrainingSettings(learning_rate=1.0, warmup=0.1)
    assert max(learning_rate(step, 22, settings) for step in range(22)) == pytest.approx(
        1, abs=0.05
    )


def test_rates_rise_and_fall_anew_after_a_restart():
    plain = TrainingSettings(learning_rate=1.0, warmup=0.2)
    longer = plain.model_copy(update={"restarts": (10, 25, 90)})
    found = [learning_rate(step, 40, longer) for step in range(40)]
    cycles = [(10, plain), (15, plain), (15, plain)]  # what is beyond the end does not count
    assert found == [learning_rate(step, n, of) for n, of in cycles for step in range(n)]
