import numpy as np
import pytest

from manyscale.errors import DataError
from manyscale.evaluation.results import LearningCurve
from manyscale.reporting import score_plots as plots
from manyscale.statistics.metrics import auc, background_rejection
from manyscale.statistics.sample import Sample


def _events(seed, size=2000, shift=1.5):
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, size)
    scores = 1 / (1 + np.exp(-generator.normal(shift * (2 * labels - 1))))
    return labels, scores, generator.exponential(size=size)


def test_roc_shows_the_rejection_that_the_metrics_quote():
    labels, scores, weights = _events(1)
    drawn = plots.roc(labels, {"network": scores, "trees": scores**2}, weights)
    (axes,) = drawn.figure.axes
    assert axes.get_yscale() == "log"
    network = axes.lines[0]
    assert network.get_label() == f"network, AUC {auc(labels, scores, weights):.3f}"
    quoted = background_rejection(labels, scores, weights)["0.70"]["value"]
    at = np.argmin(np.abs(network.get_xdata() - 0.70))
    assert network.get_ydata()[at] == pytest.approx(quoted)


def test_roc_ends_where_no_background_is_left():
    drawn = plots.roc([0, 0, 1, 1], {"network": [0.1, 0.6, 0.5, 0.9]})
    rejection = drawn.figure.axes[0].lines[0].get_ydata()
    assert np.isnan(rejection[:50]).all()
    assert rejection[-1] == 2.0


def test_learning_curves_show_rejections_and_a_limit_where_no_background_is_left():
    points = [{"events": 1000, "value": 0.02, "error": 0.004}]
    points.append({"events": 4000, "value": 0.0, "error": 0.005})
    law = {"a": 0.0, "b": 2.0, "c": 0.5}
    figures = ("1 - AUC", "background efficiency at 0.70")
    curves = [
        LearningCurve(name="network", figure=figure, points=points, law=law) for figure in figures
    ]
    above, below = plots.learning(curves).figure.axes
    assert below.get_ylabel() == "background rejection at 0.70"
    (marks,) = (container[0] for container in below.containers)
    np.testing.assert_allclose(marks.get_xydata(), [[1000, 50]])
    limit, fitted = (line.get_xydata() for line in below.lines[-2:])
    np.testing.assert_allclose(limit, [[4000, 200]])
    np.testing.assert_allclose(fitted[:, 1], np.sqrt(fitted[:, 0]) / 2)
    assert above.get_ylabel() == "1 - AUC"


def test_overtraining_is_seen_in_the_class_that_has_it_and_only_there():
    labels, scores, weights = _events(2)
    other, other_scores, other_weights = _events(3)
    learned = np.where(labels == 1, scores**0.5, scores)
    found = plots.overtraining(
        Sample.of(labels, learned, weights), Sample.of(other, other_scores, other_weights)
    )
    assert found["signal"].p_value < 1e-6
    assert found["background"].p_value > 0.01


def test_score_distributions_have_unit_area_and_the_numbers_of_the_test():
    train, test = Sample.of(*_events(4)), Sample.of(*_events(5))
    axes = plots.score_distributions(train, test).figure.axes[0]
    values, edges, _ = axes.patches[0].get_data()
    assert (values * np.diff(edges)).sum() == pytest.approx(1)
    words = " ".join(text.get_text() for text in axes.get_legend().get_texts())
    assert f"KS {plots.overtraining(train, test)['signal'].distance:.3f}" in words


@pytest.mark.parametrize("epochs", [1, 5])
def test_history_marks_the_epoch_of_the_lowest_validation_loss(epochs):
    rows = [
        {"epoch": e, "train_loss": 1 / e, "validation_loss": abs(e - 3), "validation_auc": 0.9}
        for e in range(1, epochs + 1)
    ]
    labels = [line.get_label() for line in plots.history(rows).figure.axes[0].lines]
    assert f"best epoch, {min(3, epochs)}" in labels


def test_a_calibrated_score_lies_on_the_diagonal():
    generator = np.random.default_rng(6)
    truth = generator.uniform(size=20_000)
    labels = (generator.uniform(size=20_000) < truth).astype(int)
    drawn = plots.reliability(labels, {"network": truth, "trees": truth**2})
    table = {name: np.array(of) for name, of in drawn.table.items()}
    network = table["classifier"] == "network"
    pull = (table["share of signal"] - table["mean score"])[network] / (
        (table["68% high"] - table["68% low"])[network] / 2
    )
    assert np.abs(pull).max() < 3.5
    assert (table["share of signal"] > table["mean score"])[~network][:5].all()


def test_the_most_important_inputs_of_the_trees_come_first():
    drawn = plots.tree_importances({f"x{n}": n / 210 for n in range(21)})
    ticks = [text.get_text() for text in drawn.figure.axes[0].get_yticklabels()]
    assert ticks == [f"x{n}" for n in range(20, 5, -1)]


def test_plots_refuse_data_of_one_class():
    with pytest.raises(DataError, match="no signal events"):
        plots.reliability([0, 0], {"network": [0.1, 0.2]})
