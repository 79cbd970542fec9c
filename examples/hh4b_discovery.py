"""From events to a limit: cross-attention, concatenation, kinematics alone and trees in one table.

    python examples/hh4b_discovery.py runs/discovery

Makes the events of hh4b_discovery.yaml, trains three networks on the same events with the trees
beside them, counts at 3,000 fb^-1 and fits the limits: some 20 minutes on two cores. Given again, it
resumes where it was interrupted. The table goes into the folder, too: discovery.md and discovery.json.
"""

import argparse
from pathlib import Path
from typing import Any

from manyscale.card import load_card
from manyscale.console import print_cutflow, print_table
from manyscale.model.presets import Preset
from manyscale.progress import show
from manyscale.reporting.tables import Table
from manyscale.runs.compare import compare_cards
from manyscale.runs.folder import RunFolder
from manyscale.runs.generate import generate_by_class
from manyscale.runs.limits import limits_run
from manyscale.schema import Label
from manyscale.settings import write_json

CARD = Path(__file__).with_name("hh4b_discovery.yaml")
RIVALS: tuple[Preset, ...] = ("concatenation", "kinematics-only")
# Rows of the table that are no card's: of the boosted trees, and of the first network combined with them.
BESIDE = ("trees", "combined")
# The figures suffer from too few simulated events of the background, not of the signal.
BACKGROUND_TO_SIGNAL = 10
SYSTEMATIC = 0.10
HEADER = [
    "classifier",
    "AUC",
    "best cut",
    f"at {SYSTEMATIC:.0%} of b",
    "eff. b",
    "limit on mu",
    "limit, 68% band [fb]",
]

Figures = dict[str, Any]


def main() -> None:
    """Generate, train, count, fit, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--events", type=int, help="background events to be generated")
    parser.add_argument("--card", type=Path, default=CARD)
    chosen = parser.parse_args()
    card = load_card(chosen.card)
    data = card.data.model_copy(update={"dataset": chosen.out / "data"})
    card = card.model_copy(update={"data": data})
    show()

    background = chosen.events or card.generate.events
    events: dict[Label, int] = {
        "background": background,
        "signal": max(1, background // BACKGROUND_TO_SIGNAL),
    }
    print_cutflow(generate_by_class(card, card.data.dataset, events).schema.processes)
    rivals = {name: card.model_copy(update={"preset": name, "fusion": None}) for name in RIVALS}
    runs = chosen.out / "runs"
    rows = [row.plain() for row in compare_cards({"cross-attention": card, **rivals}, runs)]
    limits = {
        row["name"]: limits_run(runs / row["name"]).plain()
        for row in rows
        if row["name"] not in BESIDE
    }
    report([figures(row, runs, limits) for row in rows], chosen.out)


def figures(row: Figures, runs: Path, limits: dict[str, Figures]) -> Figures:
    """What the table says of a classifier; trees and combination are those of the first network."""
    name = row["name"]
    run = next(iter(limits)) if name in BESIDE else name
    metrics = RunFolder(runs / run).read_metrics().plain()
    counted = (metrics[name] if name in BESIDE else metrics)["significance"]
    best = {found["background"]: found["best"] for found in counted["systematics"]}
    (limit,) = limits[run]["classifiers"][name if name in BESIDE else "network"]["hypotheses"]
    return {
        "classifier": name,
        "auc": row["auc"],
        "auc_error": row["auc_error"],
        "best_cut": best[0.0],
        "best_cut_with_systematic": best[SYSTEMATIC],
        "limit": limit,
        "notice": counted.get("notice", ""),
    }


def report(found: list[Figures], out: Path) -> None:
    """Print the table and what stands behind it, and write both."""
    rows = [cells(one) for one in found]
    title = "best cut in sigma, mu of the card's cross section, both at physical weights"
    print_table(Table(title, HEADER, rows))
    print(behind(found[0]))
    lines = [HEADER, ["---"] * len(HEADER), *rows]
    drawn = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    (out / "discovery.md").write_text(f"{drawn}\n\n{behind(found[0])}\n", encoding="utf-8")
    write_json(out / "discovery.json", found)


def cells(one: Figures) -> list[str]:
    """A row of the table."""
    best, worse, limit = one["best_cut"], one["best_cut_with_systematic"], one["limit"]
    return [
        one["classifier"],
        f"{one['auc']:.4f}({one['auc_error'] * 1e4:.0f})",
        "none" if best is None else f"{best['value']:.2g} ± {best['value_error']:.1g}",
        "none" if worse is None else f"{worse['value']:.2g} ± {worse['value_error']:.1g}",
        "none" if best is None else f"{best['background_n_effective']:.0f}",
        f"{short(limit['mu']['0'])} ± {short(limit['mu_error'])}",
        "{} ({} to {})".format(*(short(limit["limit_fb"][band]) for band in ("0", "-1", "1"))),
    ]


def short(value: float) -> str:
    """Three digits, without an exponent where the figure is large."""
    return f"{float(f'{value:.3g}'):,.0f}" if value >= 100 else f"{value:.3g}"


def behind(first: Figures) -> str:
    """How much simulation stands behind the figures of a classifier."""
    best = first["best_cut"]
    if best is None:
        return first["notice"]
    return (
        f"Behind these figures: {best['background_n_effective']:.0f} effective simulated background "
        f"events stand for {best['background']:.3g} expected ones above the best cut of "
        f"{first['classifier']}, beside {best['signal']:.3g} of the signal. All errors are those of "
        "too few simulated events, and they weaken significances and limits, too: an experiment "
        f"would take QCD from its data. {first['notice']}"
    ).strip()


if __name__ == "__main__":
    main()
