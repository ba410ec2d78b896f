"""A byte-level BPE: the only module that touches the ``tokenizers`` library.

Byte level means that every text has tokens and that the UTF-8 bytes of a text are the sum over its
tokens, which is what makes bits per byte exact. The library is loaded when a tokenizer is trained or
opened; reading prepared data needs none.
"""

import os
import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ralph.errors import ConfigurationError
from ralph.protocol.data import BOS

if TYPE_CHECKING:
    import tokenizers

BOS_TEXT = "<|bos|>"
MAX_TOKEN_BYTES = 32
"""Rulers of dashes and runs of spaces would make longer ones."""
PIECE, MAX_PIECE = 1 << 18, 1 << 19
"""Characters that the library is given at once, at least and at most, of a longer text."""
_BLANK = re.compile(r"(?<=\S)[ \n]")
MIN_VOCABULARY = 257
MAX_VOCABULARY = 65536


class BpeTokenizer:
    """Text to token ids.

    Args:
        data: The tokenizer's JSON, as ``to_bytes`` wrote it and as its digest fixes it.
        vocabulary: Number of token ids V; ids that the training text did not fill stay unused.
    """

    def __init__(self, data: bytes, *, vocabulary: int) -> None:
        self._tokenizer: tokenizers.Tokenizer = _library().Tokenizer.from_str(data.decode("utf-8"))
        self._tokenizer.encode_special_tokens = True  # a text that contains BOS_TEXT is text
        self.vocabulary = vocabulary
        self.token_bytes: npt.NDArray[np.uint8] = np.zeros(vocabulary, np.uint8)
        for text, token in self._tokenizer.get_vocab().items():
            self.token_bytes[token] = 0 if token == BOS else len(text)
        self.token_bytes.flags.writeable = False

    def encode(self, text: str) -> npt.NDArray[np.uint16]:
        """Return the tokens of ``text``, without BOS."""
        pieces = [np.array(self._tokenizer.encode(piece, add_special_tokens=False).ids, np.uint16) for piece in pieces_of(text)]
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)

    def decode(self, tokens: Iterable[int]) -> str:
        """Return the text of ``tokens``; bytes that are no UTF-8 become the replacement character."""
        text: str = self._tokenizer.decode([int(token) for token in tokens], skip_special_tokens=True)
        return text

    def to_bytes(self) -> bytes:
        """Return the JSON that opens as this tokenizer."""
        text: str = self._tokenizer.to_str(pretty=False)
        return text.encode("utf-8")


def pieces_of(text: str) -> Iterator[str]:
    """Cut a long text where cutting changes no token: before a blank after something else, where every token ends anyway.

    The library needs about 160 bytes of memory for each of a text. A text without such a place is cut all the same, at ``MAX_PIECE``.
    """
    start = 0
    while len(text) - start > MAX_PIECE:
        blank = _BLANK.search(text, start + PIECE, start + MAX_PIECE)
        end = blank.start() if blank else start + MAX_PIECE
        yield text[start:end]
        start = end
    yield text[start:]


def train_bpe(texts: Iterable[str], *, vocabulary: int) -> BpeTokenizer:
    """Train a tokenizer. The same texts in the same order give the same bytes."""
    if not MIN_VOCABULARY <= vocabulary <= MAX_VOCABULARY:
        raise ConfigurationError(f"vocabulary {vocabulary} is outside {MIN_VOCABULARY} to {MAX_VOCABULARY}")
    library = _library()
    tokenizer = library.Tokenizer(library.models.BPE())
    tokenizer.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = library.decoders.ByteLevel()
    trainer = library.trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[BOS_TEXT],
        initial_alphabet=sorted(library.pre_tokenizers.ByteLevel.alphabet()),
        max_token_length=MAX_TOKEN_BYTES,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer=trainer)
    return BpeTokenizer(tokenizer.to_str(pretty=False).encode("utf-8"), vocabulary=vocabulary)


def _library() -> Any:
    """Load the library with its thread pool switched off: repeatable, and a later fork is safe."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    try:
        import tokenizers  # noqa: PLC0415 - reading data must not need it
    except ImportError as error:
        raise ConfigurationError("preparing data needs the tokenizers library: pip install 'tokenizers>=0.20'") from error
    return tokenizers
