"""Fits of a workspace against pyhf's own inference and against closed forms."""

import builtins

import numpy as np
import pytest
from scipy.stats import norm

from manyscale.errors import MissingExtraError
from manyscale.evaluation.likelihood import Likelihood, expected
from manyscale.evaluation.systematics import Normalisation
from manyscale.evaluation.templates import Templates
from manyscale.evaluation.workspace import ShapeTemplates, workspace
from manyscale.schema import Process
from manyscale.statistics.exclusion import BANDS, statistics_only
from manyscale.statistics.significance import significance

pyhf = pytest.importorskip("pyhf")

PROCESSES = tuple(
    Process(name=name, label=label)
    for name, label in (("hh", "signal"), ("qcd", "background"), ("tt", "background"))
)


def built(s, qcd, tt, errors, variations=(), most=50.0):
    """A workspace of given contents, (bins,), and relative errors of the backgrounds."""
    content = np.array([s, qcd, tt], float)
    relative = np.array([np.zeros(len(s)), errors, errors])
    edges = np.linspace(0, 1, len(s) + 1)
    squares = (content * relative) ** 2
    templates = Templates(
        edges, PROCESSES, content, squares, np.ones_like(content), squares.max(axis=1)
    )
    return workspace("network", templates, ["hh"], variations, most).content


def systematics(qcd, tt, size=1.0):
    content = np.array([np.zeros(len(qcd)), qcd, tt])
    tilt = 1 + size * 0.1 * np.linspace(-1, 1, len(qcd))
    shape = ShapeTemplates("jes", ("qcd", "tt"), content * tilt * 1.03, content / tilt)
    return [Normalisation("rate", ("qcd",), 1.1, 1 / 1.1), shape]


SMALL = ([3.0, 8.0, 6.0], [400.0, 90.0, 12.0], [30.0, 20.0, 5.0], [0.02, 0.05, 0.1])


@pytest.fixture
def small():
    return built(*SMALL, systematics(*SMALL[1:3]))


def opened(content):
    """pyhf's model, without the check of the schema, and the Asimov data of a signal strength."""
    model = pyhf.Model({"channels": content["channels"]}, poi_name="mu", validate=False)

    def asimov(strength):
        parameters = np.array(model.config.suggested_init())
        parameters[model.config.poi_index] = strength
        return model.expected_data(parameters)

    return model, asimov


def test_limits_are_those_at_which_pyhf_finds_cls_of_a_twentieth(small):
    model, asimov = opened(small)
    limits = expected(small, 1.0).limits
    for place, band in enumerate(BANDS):
        _, found = pyhf.infer.hypotest(limits[band], asimov(0), model, return_expected_set=True)
        assert float(found[place]) == pytest.approx(0.05, rel=0.01)


def test_significance_is_that_of_pyhf(small):
    model, asimov = opened(small)
    p_value = float(pyhf.infer.hypotest(0.0, asimov(1), model, test_stat="q0"))
    assert expected(small, 1.0).significance == pytest.approx(norm.isf(p_value), rel=0.01)


def test_deviance_is_that_of_pyhf(small):
    model, asimov = opened(small)
    likelihood = Likelihood(small)
    for tested, true in ((0.0, 1.0), (2.5, 0.0), (1.0, 3.0)):
        data = asimov(true)
        parameters = np.array(model.config.suggested_init())
        parameters[model.config.poi_index] = true
        best = pyhf.infer.mle.twice_nll(parameters, data, model)[0]
        _, fitted = pyhf.infer.mle.fixed_poi_fit(tested, data, model, return_fitted_val=True)
        assert likelihood.deviance(tested, true) == pytest.approx(fitted - best, rel=2e-3)
    assert likelihood.deviance(1.0, 1.0) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("band", BANDS)
def test_limit_of_a_large_counting_experiment(band):
    content = built([300.0], [9e5], [1e5], [0.0], most=100.0)
    root = norm.ppf(1 - 0.05 * norm.cdf(band)) + band
    found = expected(content, 5.0).limits[band]
    assert found == pytest.approx(np.sqrt(1e6) / 300 * root, rel=0.02)


def test_uncertain_background_is_the_asimov_formula_in_one_bin():
    # 3% on the whole background, by one normalisation, against its on-off formula.
    moved = [Normalisation("rate", ("qcd", "tt"), 1.03, 1 / 1.03)]
    found = expected(built([500.0], [9000.0], [1000.0], [0.0], moved), 1.0)
    assert found.significance == pytest.approx(float(significance(500, 1e4, 300)), rel=0.03)


def test_without_systematics_the_closed_form_is_found_again():
    s, qcd, tt, errors = SMALL
    found = expected(built(*SMALL), 1.0)
    background = np.add(qcd, tt)
    error = np.hypot(np.multiply(qcd, errors), np.multiply(tt, errors))
    closed = statistics_only(s, background, error)
    assert found.limits == pytest.approx(closed.limits, rel=1e-4)
    assert found.significance == pytest.approx(closed.significance, rel=1e-6)


def test_a_hundred_million_events_in_a_bin_do_not_spoil_the_fit():
    qcd, tt = np.geomspace(1e8, 8, 6), np.geomspace(1e7, 2, 6)
    s = np.geomspace(1, 6, 6)
    errors = np.geomspace(1e-3, 0.1, 6)
    limits = {
        size: expected(built(s, qcd, tt, errors, systematics(qcd, tt, size)), 1.0).limits[0]
        for size in (1e-9, 0.3, 1.0)
    }
    closed = statistics_only(s, qcd + tt, np.hypot(qcd * errors, tt * errors)).limits[0]
    assert closed < limits[1e-9] < limits[1.0]
    assert limits[1.0] < 1.3 * closed


def test_faint_and_strong_signals_scale():
    content = built(*SMALL, systematics(*SMALL[1:3]))
    nominal = expected(content, 1.0)
    for factor in (1e-9, 1e-3, 1e4):
        s = np.multiply(SMALL[0], factor)
        found = expected(built(s, *SMALL[1:], systematics(*SMALL[1:3])), 1 / factor)
        assert {n: mu * factor for n, mu in found.limits.items()} == pytest.approx(
            nominal.limits, rel=1e-3
        )
        if factor < 1:
            # Far below its limit the significance grows with the signal, a little more at first.
            assert found.significance / factor == pytest.approx(nominal.significance, rel=0.15)


def test_missing_pyhf_is_said(monkeypatch, small):
    real = builtins.__import__

    def without(name, *arguments, **named):
        if name == "pyhf":
            raise ImportError(name)
        return real(name, *arguments, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtraError, match="limits"):
        Likelihood(small)
