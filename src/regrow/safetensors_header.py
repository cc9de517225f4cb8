"""The header of a safetensors file, read without torch.

The format (https://github.com/huggingface/safetensors, "Format"): eight bytes with the header's length, a JSON header
with each tensor's type, shape and place, then the bytes of the tensors without gaps.
"""

from __future__ import annotations

import json
import os
import struct
from dataclasses import dataclass
from typing import Any, BinaryIO


@dataclass(frozen=True, kw_only=True)
class Header:
    """What a safetensors file says of its tensors.

    Attributes:
        text: the JSON as it stands in the file.
        places: for each tensor by name, the first byte and the byte after the last, counted from the start of the file.
    """

    text: bytes
    places: dict[str, tuple[int, int]]

    @property
    def size(self) -> int:
        """Bytes that the whole file must have."""
        return max((end for _, end in self.places.values()), default=8 + len(self.text))


def read_header(file: BinaryIO) -> Header:
    """The header of a file that is open at its start. Raises `ValueError` if it is not a safetensors file."""
    try:
        (length,) = struct.unpack("<Q", file.read(8))
        if length > os.fstat(file.fileno()).st_size:
            raise ValueError(f"a header of {length} bytes is longer than the file")
        text = file.read(length)
        content: dict[str, Any] = json.loads(text)
        offsets = {name: entry["data_offsets"] for name, entry in content.items() if name != "__metadata__"}
        places = {name: (8 + length + start, 8 + length + end) for name, (start, end) in offsets.items()}
    except (struct.error, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"no safetensors header: {error}") from None
    return Header(text=text, places=places)
