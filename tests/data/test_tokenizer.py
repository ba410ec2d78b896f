import os
import subprocess
import sys
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ralph.data.bpe import MAX_PIECE, MAX_TOKEN_BYTES, BpeTokenizer, pieces_of, train_bpe
from ralph.errors import ConfigurationError
from ralph.protocol.data import BOS

TEXTS = ["def function(argument):\n    return argument\n", "the cat sat on the mat, the cat sat\n", "naïve café\n" + "-" * 100] * 5


@cache
def trained() -> BpeTokenizer:
    return train_bpe(TEXTS, vocabulary=320)


@given(st.text())
def test_every_text_comes_back_and_its_bytes_are_the_bytes_of_its_tokens(text: str) -> None:
    tokenizer = trained()
    tokens = tokenizer.encode(text)
    assert tokenizer.decode(tokens) == text
    assert int(tokenizer.token_bytes[tokens].sum()) == len(text.encode("utf-8"))
    assert BOS not in tokens


WORDS = st.text(alphabet="ab'1.-\t\r\u00a0\u2028é日", max_size=5)
BLANKS = st.sampled_from([" ", "\n", "  ", " \n\n", "\n    ", " \u2003"])


@given(st.lists(st.tuples(WORDS, BLANKS), max_size=60))
def test_a_long_text_has_the_tokens_that_it_has_in_one_piece(words: list[tuple[str, str]]) -> None:
    text = "".join("w" + word + "w" + blank for word, blank in words)
    whole = trained().encode(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ralph.data.bpe.PIECE", 8)
        patch.setattr("ralph.data.bpe.MAX_PIECE", 40)
        assert max(map(len, pieces_of(text))) <= 40
        assert trained().encode(text).tolist() == whole.tolist()


def test_a_long_text_without_a_blank_is_cut_all_the_same() -> None:
    text = "x" * (2 * MAX_PIECE + 5)
    assert [len(piece) for piece in pieces_of(text)] == [MAX_PIECE, MAX_PIECE, 5]
    assert trained().decode(trained().encode(text)) == text


def test_a_text_that_spells_the_bos_token_stays_text() -> None:
    tokens = trained().encode("a<|bos|>b")
    assert BOS not in tokens
    assert trained().decode(tokens) == "a<|bos|>b"
    assert trained().token_bytes[BOS] == 0


def test_the_json_opens_as_the_same_tokenizer() -> None:
    again = BpeTokenizer(trained().to_bytes(), vocabulary=320)
    assert again.to_bytes() == trained().to_bytes()
    assert again.encode("the cat<|bos|>").tolist() == trained().encode("the cat<|bos|>").tolist()


def test_no_token_is_longer_than_its_limit() -> None:
    assert 1 < int(trained().token_bytes.max()) <= MAX_TOKEN_BYTES


def test_ids_that_a_small_text_leaves_unused_count_no_bytes() -> None:
    tokenizer = train_bpe(["ab" * 20], vocabulary=1000)
    assert tokenizer.token_bytes.size == 1000
    assert tokenizer.token_bytes[-1] == 0


def test_another_process_trains_the_same_bytes() -> None:
    program = (
        "import sys; from ralph.data.bpe import train_bpe; texts = eval(sys.argv[1]);"
        "sys.stdout.buffer.write(train_bpe(texts, vocabulary=320).to_bytes())"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "77", "RAYON_NUM_THREADS": "2"}
    other = subprocess.run([sys.executable, "-c", program, repr(TEXTS)], capture_output=True, check=True, env=environment)
    assert other.stdout == trained().to_bytes()


@pytest.mark.parametrize("vocabulary", [0, 256, 65537])
def test_a_vocabulary_that_cannot_hold_all_bytes_or_is_not_uint16_is_refused(vocabulary: int) -> None:
    with pytest.raises(ConfigurationError, match=str(vocabulary)):
        train_bpe(TEXTS, vocabulary=vocabulary)


def test_reading_prepared_data_does_not_load_the_tokenizers_library() -> None:
    program = "import sys; import ralph.data.shards, ralph.data.order, ralph.data.verify; print('tokenizers' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True)
    assert result.stdout.strip() == "False"
