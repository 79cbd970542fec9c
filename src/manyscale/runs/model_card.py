"""The model card of a run: what its model was trained on, and what it is worth."""

from manyscale.checksums import write_checksums
from manyscale.deployment.bundle import write_model_card
from manyscale.evaluation.results import DataFacts, Figures, Metrics
from manyscale.model.classifier import MultiScaleClassifier
from manyscale.runs.folder import RunFolder

__all__ = ["describe_model"]


def describe_model(folder: RunFolder, network: MultiScaleClassifier, metrics: Metrics) -> None:
    """Write README.md into the model folder of a run that is being evaluated."""
    facts = DataFacts.read_if_there(folder.root / "data.json") or DataFacts()
    trained_on = [f"- {of.name} ({of.label})" for of in facts.processes]
    if train := facts.splits.get("train"):
        numbers = ", ".join(f"{count:,} {label}" for label, count in train.items())
        trained_on += [
            "",
            f"Training events: {numbers}. Where they are from: `card.yaml` of the run.",
        ]
    figures = [
        f"On {metrics.n_events or 0:,} test events, both classes of the same weight:",
        "",
        _figures("network", metrics),
    ]
    if metrics.trees is not None:
        figures.append(_figures("boosted trees on the same events", metrics.trees))
    write_model_card(folder.model, network, trained_on=trained_on, figures=figures)
    # Of the other files the checksums of their making stay.
    write_checksums(folder.model, "README.md")


def _figures(name: str, of: Figures) -> str:
    error = "" if of.auc_error is None else f" ± {of.auc_error:.4f}"
    rejection = of.background_rejection.get("0.50")
    rejects = (
        ""
        if rejection is None or rejection.value is None
        else (f", background rejection {rejection.value:,.0f} at a signal efficiency of 0.5")
    )
    return f"- {name}: AUC {of.auc:.4f}{error}{rejects}"
