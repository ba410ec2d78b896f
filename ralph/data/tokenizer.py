"""What a tokenizer is, and opening whichever one a directory of data was made with."""

from collections.abc import Iterable
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ralph.data.bpe import BpeTokenizer
from ralph.data.gpt2 import Gpt2Tokenizer


class Tokenizer(Protocol):
    """Text to token ids. The UTF-8 bytes of a text are the sum over its tokens, which makes bits per byte exact."""

    @property
    def vocabulary(self) -> int:
        """Return the number of token ids V, BOS included."""
        ...

    @property
    def token_bytes(self) -> npt.NDArray[np.uint8]:
        """Return the UTF-8 bytes of each token: uint8[V]; 0 for BOS and for ids that no text produces."""
        ...

    def encode(self, text: str) -> npt.NDArray[np.uint16]:
        """Return the tokens of ``text``, without BOS."""
        ...

    def decode(self, tokens: Iterable[int]) -> str:
        """Return the text of ``tokens``; bytes that are no UTF-8 become the replacement character."""
        ...

    def to_bytes(self) -> bytes:
        """Return what ``open_tokenizer`` opens as this tokenizer."""
        ...


def open_tokenizer(data: bytes, *, vocabulary: int) -> Tokenizer:
    """Return the tokenizer whose ``to_bytes`` gave ``data``: JSON is a trained BPE, anything else GPT-2's ranks."""
    return BpeTokenizer(data, vocabulary=vocabulary) if data.startswith(b"{") else Gpt2Tokenizer(data)
