"""The GPT-2 tokenizer: the only module that touches the ``tiktoken`` library.

Token 0 is BOS, which takes the place of GPT-2's <|endoftext|>; every other token has GPT-2's rank plus one.
"""

import base64
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ralph.errors import ConfigurationError

if TYPE_CHECKING:
    import tiktoken

MERGES, ENCODER = "vocab.bpe", "encoder.json"
URL = "https://openaipublic.blob.core.windows.net/gpt-2/encodings/main/"
SHA256 = {
    MERGES: "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
    ENCODER: "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
}
"""As tiktoken pins them for "gpt2"."""
PATTERN = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""
"""How GPT-2 cuts a text before it merges (Radford et al. 2019, in the equivalent form that tiktoken uses)."""
RANKS = 50256
VOCABULARY = RANKS + 1


class Gpt2Tokenizer:
    """Text to token ids.

    Args:
        data: One line per rank, the token's bytes in base64, as ``to_bytes`` wrote it.
    """

    def __init__(self, data: bytes) -> None:
        ranks = {base64.b64decode(line): rank for rank, line in enumerate(data.splitlines())}
        if len(ranks) != RANKS:
            raise ConfigurationError(f"the tokenizer has {len(ranks)} ranks, GPT-2 has {RANKS}", code="OPS-DATA")
        self.vocabulary = VOCABULARY
        self.token_bytes: npt.NDArray[np.uint8] = np.zeros(VOCABULARY, np.uint8)
        for token, rank in ranks.items():
            self.token_bytes[rank + 1] = len(token)
        self.token_bytes.flags.writeable = False
        self._data = data
        self._encoding: tiktoken.Encoding = _library().Encoding("gpt2", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens={})

    def encode(self, text: str) -> npt.NDArray[np.uint16]:
        """Return the tokens of ``text``, without BOS."""
        ranks: npt.NDArray[np.uint32] = self._encoding.encode_to_numpy(text, disallowed_special=())
        return ranks.astype(np.uint16) + np.uint16(1)

    def decode(self, tokens: Iterable[int]) -> str:
        """Return the text of ``tokens``; bytes that are no UTF-8 become the replacement character."""
        text: str = self._encoding.decode([int(token) - 1 for token in tokens if token])
        return text

    def to_bytes(self) -> bytes:
        """Return what opens as this tokenizer."""
        return self._data


def load_gpt2(directory: Path | None = None) -> Gpt2Tokenizer:
    """Return the tokenizer from GPT-2's published files, compared with their SHA-256.

    Args:
        directory: Where ``vocab.bpe`` and ``encoder.json`` are; None downloads them into tiktoken's cache.

    Raises:
        ConfigurationError: The files are not there, not reachable or not GPT-2's.
    """
    place = URL if directory is None else f"{directory.absolute()}/"
    try:
        ranks: dict[bytes, int] = _loader().data_gym_to_mergeable_bpe_ranks(
            vocab_bpe_file=place + MERGES,
            encoder_json_file=place + ENCODER,
            vocab_bpe_hash=SHA256[MERGES],
            encoder_json_hash=SHA256[ENCODER],
        )
    except (OSError, ValueError) as error:
        detail = f"GPT-2's {MERGES} and {ENCODER} cannot be read from {place}: {error}"
        raise ConfigurationError(f"{detail}; give a directory that holds them", code="OPS-DATA") from error
    return Gpt2Tokenizer(b"\n".join(base64.b64encode(token) for token in sorted(ranks, key=ranks.__getitem__)))


def _library() -> Any:
    try:
        import tiktoken  # noqa: PLC0415 - an optional extra
    except ImportError as error:
        raise ConfigurationError("GPT-2's tokenizer needs the tiktoken library: pip install 'ralph-subnet[data]'") from error
    return tiktoken


def _loader() -> Any:
    _library()
    import tiktoken.load  # noqa: PLC0415 - an optional extra

    return tiktoken.load
