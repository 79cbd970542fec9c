"""Cross-attention, concatenation, kinematics-only and trees on hh -> 4b, 20,000 events generated of each class.

    python benchmarks/hh4b.py runs/hh4b

Makes the events (some minutes on two cores), trains the three networks on the same events, and
prints one table with paired errors. Goes on where it was interrupted.
"""

import argparse
from pathlib import Path

from manyscale.card import Card
from manyscale.card import preset_card
from manyscale.console import ConsoleProgress, print_comparison, print_cutflow
from manyscale.model.presets import Preset
from manyscale.runs.comparison import compare_cards
from manyscale.runs.production import generate_dataset
from manyscale.training.schedule import TrainingSettings

PRESETS: tuple[Preset, ...] = ("model-2", "concatenation", "kinematics-only")
EVENTS = 20_000


def main() -> None:
    """Generate, train, compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, default=1)
    chosen = parser.parse_args()
    cards: dict[str, Card] = {}
    for preset in PRESETS:
        card = preset_card(preset)
        cards[preset] = card.model_copy(
            update={
                "data": card.data.model_copy(update={"dataset": chosen.out / "data"}),
                "generate": card.generate.model_copy(update={"events": EVENTS}),
                "training": TrainingSettings(epochs=30, batch_size=128),
            }
        )
    progress = ConsoleProgress()
    dataset = generate_dataset(cards["model-2"], chosen.out / "data", progress=progress)
    print_cutflow(dataset.schema.processes)
    rows = compare_cards(cards, chosen.out, seeds=chosen.seeds, progress=progress)
    print_comparison(rows, trainings=chosen.seeds)


if __name__ == "__main__":
    main()
