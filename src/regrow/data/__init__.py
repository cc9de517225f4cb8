"""Text -> tokens -> packed blocks, and the order a run sees them in."""

from regrow.data.blocks import Blocks, DocumentTable, pack, tokenize
from regrow.data.order import BlockOrder, SeenDocument, documents_seen, repetition
from regrow.data.packed import DataWarning, find_cached, read_blocks, read_split
from regrow.data.source import TextSource
from regrow.data.text import Document, iter_documents, read_documents, split_documents

__all__ = [
    "BlockOrder",
    "Blocks",
    "DataWarning",
    "Document",
    "DocumentTable",
    "SeenDocument",
    "TextSource",
    "documents_seen",
    "find_cached",
    "iter_documents",
    "pack",
    "read_blocks",
    "read_documents",
    "read_split",
    "repetition",
    "split_documents",
    "tokenize",
]
