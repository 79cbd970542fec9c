"""Cross-attention, concatenation, kinematics-only and trees on hh -> 4b, 20,000 events generated of each class.

    python benchmarks/hh4b.py runs/hh4b

Makes the events (some minutes on two cores), trains the three networks on the same events, and
prints one table with paired errors. An interrupted run is resumed by the same command.
"""

import argparse
from pathlib import Path

from manyscale.card import Card, preset_card
from manyscale.console import print_comparison, print_cutflow
from manyscale.model.presets import Preset
from manyscale.progress import show
from manyscale.runs.compare import compare_cards
from manyscale.runs.generate import generate_dataset
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
    show()
    dataset = generate_dataset(cards["model-2"], chosen.out / "data")
    print_cutflow(dataset.schema.processes)
    rows = compare_cards(cards, chosen.out, seeds=chosen.seeds)
    print_comparison(rows)


if __name__ == "__main__":
    main()
