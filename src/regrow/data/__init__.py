"""Text -> tokens -> packed blocks, and the order a run sees them in."""

from regrow.data.blocks import Blocks, pack, tokenize
from regrow.data.order import BlockOrder
from regrow.data.text import read_documents, split_documents

__all__ = ["BlockOrder", "Blocks", "pack", "read_documents", "split_documents", "tokenize"]
