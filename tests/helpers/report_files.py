"""Files of a run that a report reads, with names that must never reach a page as they are."""

import numpy as np

__all__ = ["HOSTILE", "chosen_events", "expected_limits", "explanation_files"]

HOSTILE = '<img src=x onerror="alert(1)">'

_KINDS = ("charged hadron", "photon", "neutral hadron", "electron", "muon")
_OBJECTS = ("leading jet", "second jet", "pair")
_REASONS = ("most signal-like", "most background-like", "worst mistake")


def _tokens(random, count, kinds, width, attended):
    importance = random.normal(size=count) ** 2
    attention = random.dirichlet(np.full(count, 0.4)) / 2 if count else np.empty(0)
    return {
        "eta": random.normal(scale=width, size=count).round(4).tolist(),
        "phi": random.normal(scale=width, size=count).round(4).tolist(),
        "pt": (1 + 20 * random.exponential(size=count)).round(4).tolist(),
        "kind": [kinds[place % len(kinds)] for place in range(count)],
        "attention": attention.round(4).tolist() if attended else None,
        "importance": importance.round(4).tolist(),
    }


def chosen_events(each=4, tokens=50):
    """The content of explanation/display.json; a process and a stream have hostile names."""
    random = np.random.default_rng(5)
    events = []
    for reason in _REASONS:
        for place in range(each):
            signal = reason == "most signal-like"
            count = 0 if place == 1 else tokens
            events.append(
                {
                    "event_id": str(2**63 + len(events)),
                    "label": "signal" if signal else "background",
                    "process": HOSTILE if place == 0 else "qcd_bb</script><!--",
                    "score": 0.9 if signal else 0.1234,
                    "why": reason,
                    "observables": {"m_j1": 125.0 + place, "n_btags_j1": 2.0, "h_bb_j1": -1.0},
                    "streams": {
                        "jet1": _tokens(random, tokens, _KINDS, 0.25, attended=True),
                        HOSTILE: _tokens(random, count, _KINDS, 0.3, attended=True),
                        "kinematics": _tokens(random, 3, _OBJECTS, 1.0, attended=False),
                    },
                }
            )
    axis = "around the jet's axis"
    frames = {"jet1": axis, HOSTILE: axis, "kinematics": "detector"}
    return {
        "events": events,
        "streams": [{"name": name, "frame": frame} for name, frame in frames.items()],
        "radius": 1.0,
    }


def expected_limits():
    """The content of limits/limits.json: network and trees, one signal of a hostile name."""

    def hypothesis(median):
        bands = {str(band): median * 1.4**band for band in range(-2, 3)}
        return {
            "signal": HOSTILE,
            "mass": 1000.0,
            "cross_section_fb": 2.0,
            "mu": bands,
            "limit_fb": {band: 2 * value for band, value in bands.items()},
            "mu_error": 0.03,
            "significance": 2.345,
            "significance_error": 0.12,
            "significance_statistics_only": 3.456,
        }

    return {
        "luminosity": 300.0,
        "confidence": 0.95,
        "classifiers": {
            "network": {"edges": [0, 0.5, 1], "hypotheses": [hypothesis(1.234)]},
            "trees": {"edges": [0, 0.5, 1], "hypotheses": [hypothesis(2.5)]},
        },
        "notices": [f"bins joined for {HOSTILE}"],
    }


def explanation_files():
    """Name and content of what explanation/ holds beside the display; a stream's name is hostile."""
    streams = [
        {
            "stream": name,
            "attention": attention,
            "importance": 0.4,
            "auc_loss": loss,
            "auc_loss_error": 0.01,
            "rejection_factor": 2.5,
            "rejection_low": 2.0,
            "rejection_high": None,
        }
        for name, attention, loss in ((HOSTILE, 0.25, 0.05), ("kinematics", None, 0.15))
    ]
    return {
        "summary.json": {
            "events": {"signal": 100, "background": 101},
            "deep_events": {"signal": 50, "background": 49},
            "seconds": {"shuffling": 1.25},
            "notices": [f"no maps of {HOSTILE}"],
            "streams": streams,
        },
        "deletion.json": {
            "events": 80,
            "streams": ["kinematics"],
            "excess": {
                "Grad-CAM": {"value": 0.5, "error": 0.1, "passes": True},
                "attention": {"value": -0.1, "error": 0.1, "passes": False},
            },
            "points": [],
        },
        "randomisation.json": {
            "passes": True,
            "points": [
                {"redrawn": "nothing", "correlation": 1.0, "error": 0.0},
                {"redrawn": "embedding", "correlation": 0.03, "error": 0.02},
            ],
        },
    }
