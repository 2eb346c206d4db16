"""Language models over streams of tokens: training with carried state, scores of a text, text token by token."""

from spikekit.language.checkpoint import load_language_model
from spikekit.language.generate import Continuation
from spikekit.language.picture import calcium_picture
from spikekit.language.score import TextScore, score_text
from spikekit.language.trainer import TextRecord, TextSettings, TextTrainer

__all__ = [
    "Continuation",
    "TextRecord",
    "TextScore",
    "TextSettings",
    "TextTrainer",
    "calcium_picture",
    "load_language_model",
    "score_text",
]
