"""How the generator learns from measured programs: one module per method, one update for all of them."""

from engine.learning.lesson import Lesson, Method
from engine.learning.methods import method_named
from engine.learning.pairs import Pair, Past, choose_pairs
from engine.learning.update import Update

__all__ = ["Lesson", "Method", "Pair", "Past", "Update", "choose_pairs", "method_named"]
