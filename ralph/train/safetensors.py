"""Write named tensors as a safetensors file, always the same bytes for the same tensors.

Layout (https://huggingface.co/docs/safetensors): u64 length of the header, a JSON header padded with spaces to 8 bytes, then the
buffers. Ours is canonical: names sorted, buffers in that order without gaps, no metadata.
"""

import json
from collections.abc import Sequence
from typing import Any

from ralph.train import wire
from ralph.train.safetensors_header import DTYPES

_NAMES = {wire_name: name for name, wire_name in DTYPES.items()}


def parts(tensors: Sequence[wire.Tensor]) -> list[bytes | bytearray | memoryview]:
    """Return the buffers of the file in order: the header, then every tensor's own buffer, not copied."""
    header: dict[str, Any] = {}
    ordered = sorted(tensors, key=lambda tensor: tensor.name)
    end = 0
    for tensor in ordered:
        start, end = end, end + tensor.size_bytes
        header[tensor.name] = {"dtype": _NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    encoded = json.dumps(header, separators=(",", ":")).encode("ascii")
    encoded += b" " * (-len(encoded) % 8)
    return [len(encoded).to_bytes(8, "little") + encoded, *(tensor.data for tensor in ordered)]


def dump(tensors: Sequence[wire.Tensor]) -> bytes:
    """Return the file."""
    return b"".join(parts(tensors))
