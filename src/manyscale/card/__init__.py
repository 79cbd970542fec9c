"""The card: one YAML file that says all of a run."""

from manyscale.card.reading import load_card, parse_card
from manyscale.card.settings import Card, DataSettings, EvaluationSettings
from manyscale.card.writing import card_text

__all__ = ["Card", "DataSettings", "EvaluationSettings", "card_text", "load_card", "parse_card"]
