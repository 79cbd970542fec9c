"""hh -> 4b at several numbers of training events: what starts from the base, what does not, trees, both.

    python benchmarks/hh4b.py runs/hh4b

Makes 40,000 events of each class, trains networks and trees on 2,000 to 40,000 of them, and prints
one table with paired errors and learning curves; the report has the plots. A call that was ended is resumed.
"""

import argparse
from pathlib import Path

from manyscale.card import Card, preset_card
from manyscale.console import print_comparison
from manyscale.data.event_filter import SplitSettings
from manyscale.progress import show
from manyscale.reporting.comparison import read_curves
from manyscale.runs.compare import compare_cards
from manyscale.runs.generate import generate_dataset
from manyscale.training.schedule import TrainingSettings

EVENTS = 40_000
SIZES = (2_000, 7_000, 20_000, 40_000)
SEED = 77_001
SPLIT = SplitSettings(train=0.66, validation=0.09, test=0.25)


def cards(data: Path) -> dict[str, Card]:
    """The networks compared; `fresh` starts from weights drawn at random."""
    found = {}
    for name in (
        "model-2",
        "concatenation",
        "kinematics-only",
        "model-2-fresh",
        "concatenation-fresh",
    ):
        card = preset_card(name.removesuffix("-fresh"))  # type: ignore[arg-type]
        fresh = name.endswith("-fresh")
        found[name] = card.model_copy(
            update={
                "seed": SEED,
                "data": card.data.model_copy(
                    update={"dataset": data, "split": SPLIT, "memory": 2000}
                ),
                "generate": card.generate.model_copy(update={"events": EVENTS}),
                "training": TrainingSettings(
                    epochs=12, batch_size=128, start="none" if fresh else "auto"
                ),
            }
        )
    return found


def main() -> None:
    """Generate, train, compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--sizes", type=int, nargs="*", default=SIZES)
    chosen = parser.parse_args()
    compared = cards(chosen.out / "data")
    show()
    generate_dataset(compared["model-2"], chosen.out / "data")
    rows = compare_cards(compared, chosen.out, sizes=chosen.sizes)
    print_comparison(rows, read_curves(chosen.out))


if __name__ == "__main__":
    main()
