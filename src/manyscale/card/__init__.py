"""The card: one YAML file that says all of a run."""

from manyscale.card.card import Card, DataSettings, EvaluationSettings, check_preset, preset_card
from manyscale.card.yaml_io import card_text, load_card, make_card, parse_card, preset_card_text

__all__ = [
    "Card",
    "DataSettings",
    "EvaluationSettings",
    "card_text",
    "check_preset",
    "load_card",
    "make_card",
    "parse_card",
    "preset_card",
    "preset_card_text",
]
