"""The embedded default: tiny pretrained models of two families, their tokenizer and their text."""

from regrow.ladder.assets import ASSETS, find_corpus, find_model
from regrow.ladder.recipe import LLAMA, QWEN2, RUNGS, Rung, family_rungs, rung

__all__ = ["ASSETS", "LLAMA", "QWEN2", "RUNGS", "Rung", "family_rungs", "find_corpus", "find_model", "rung"]
