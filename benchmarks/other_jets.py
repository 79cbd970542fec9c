"""Jets that the base has not seen: top against QCD, quark against gluon; another tune, R = 0.8, one jet an event.

    python benchmarks/other_jets.py runs/other_jets

Makes 8,000 events of each class and task, trains Model 1 on 2,000 jets of each class, once from the base and
once from fresh weights, and prints a table a task with paired errors, trees and combination beside.
"""

import argparse
from pathlib import Path

from manyscale.card import Card
from manyscale.console import print_comparison
from manyscale.progress import show
from manyscale.runs.compare import compare_cards
from manyscale.runs.generate import generate_dataset

TUNE = "Tune:pp=21"  # ATLAS A14; the base has Pythia's default, Monash 2013
HARD = "PhaseSpace:pTHatMin=520"
SOFTER = "PhaseSpace:pTHatMin=320"
HADRONIC = ["24:onMode=off", "24:onIfAny=1 2 3 4 5"]
TASKS = {
    "top_qcd": (
        4242,
        500.0,
        {
            "top": ("signal", ["Top:gg2ttbar=on", "Top:qqbar2ttbar=on", HARD, *HADRONIC, TUNE]),
            "qcd_jets": ("background", ["HardQCD:all=on", HARD, TUNE]),
        },
    ),
    "quark_gluon": (
        4343,
        300.0,
        {
            "quarks": (
                "signal",
                ["HardQCD:qq2qq=on", "HardQCD:gg2qqbar=on", "HardQCD:qqbar2qqbarNew=on", SOFTER, TUNE],
            ),
            "gluons": ("background", ["HardQCD:gg2gg=on", "HardQCD:qqbar2gg=on", SOFTER, TUNE]),
        },
    ),
}  # fmt: skip


def cards(data: Path, seed: int, leading_pt: float, processes: dict) -> dict[str, Card]:  # type: ignore[type-arg]
    """Model 1 on the leading jet, from the base and fresh."""
    return {
        name: Card.model_validate(
            {
                "preset": "model-1",
                "seed": seed,
                "data": {
                    "dataset": data,
                    "streams": ["jet1"],
                    "split": {"train": 0.5, "validation": 0.1, "test": 0.4},
                },
                "training": {"epochs": 15, "batch_size": 128, "start": start},
                "generate": {
                    "events": 8_000,
                    "streams": ["jet1", "kinematics"],
                    "jets": {"radius": 0.8},
                    "cuts": {"leading_pt": leading_pt, "second_pt": 200.0},
                    "processes": {
                        one: {"class": label, "pythia": lines}
                        for one, (label, lines) in processes.items()
                    },
                },
            }
        )
        for name, start in (("model-1", "auto"), ("model-1-fresh", "none"))
    }


def main() -> None:
    """Generate, train, compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    out = parser.parse_args().out
    show()
    for task, (seed, leading_pt, processes) in TASKS.items():
        compared = cards(out / task / "data", seed, leading_pt, processes)
        generate_dataset(compared["model-1"], out / task / "data")
        print_comparison(compare_cards(compared, out / task, sizes=[4_000]))


if __name__ == "__main__":
    main()
