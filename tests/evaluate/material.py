"""Rows, rules and rungs for tests: small, made from a Markov chain so that there is something to learn."""

from pathlib import Path

import numpy as np

from ralph.data.dataset import Rows
from ralph.protocol.network import CPU_TOLERANCE, LADDER
from ralph.protocol.rules import Rung
from ralph.protocol.scoring_rules import EvaluationRules

RECIPE = Path(__file__).resolve().parents[2] / "recipe"
KEY = bytes(range(100, 132))


def rung(*, sequence: int) -> Rung:
    small = {"sequence": sequence, "tokens": 16 * sequence * 40, "max_steps": 40, "max_parameters": 200_000, "segments": 2}
    return LADDER[0].model_copy(update={"name": "T", "timeout_s": 600, **small})


def rules(*, uniform: int, weighted: int, batch_rows: int = 8) -> EvaluationRules:
    cells = {"uniform_cells": uniform, "weighted_cells": weighted}
    return EvaluationRules(**cells, batch_rows=batch_rows, tolerances=(CPU_TOLERANCE,), published_decimals=5, max_cost_ratio=0.0)


def token_bytes(vocabulary: int) -> np.ndarray:
    sizes = np.random.default_rng(9).integers(1, 7, vocabulary).astype(np.uint8)
    sizes[0] = 0
    return sizes


def markov(generator: np.random.Generator, count: int, width: int, vocabulary: int) -> np.ndarray:
    """Return int32[count, width] with BOS first: a token is mostly followed by one of four of its own."""
    successors = np.random.default_rng(4).integers(1, vocabulary, (vocabulary, 4))
    tokens = np.zeros((count, width), np.int32)
    for column in range(1, width):
        likely = successors[tokens[:, column - 1], generator.integers(0, 4, count)]
        tokens[:, column] = np.where(generator.random(count) < 0.9, likely, generator.integers(1, vocabulary, count))
    return tokens


def every(data: Rows) -> np.ndarray:
    """Return all rows: int32[N, T+1]."""
    return data.take(np.arange(len(data)))


def rows(*, count: int, sequence: int, vocabulary: int, seed: int = 11) -> Rows:
    """Return rows of different lengths, a third of them from the source ``docs``, with filler behind their ends."""
    generator = np.random.default_rng(seed)
    tokens = markov(generator, count, sequence + 1, vocabulary)
    filler = markov(np.random.default_rng(seed + 1), 1, sequence + 1, vocabulary)[0]
    lengths = np.where(generator.random(count) < 0.6, sequence, generator.integers(1, sequence + 1, count)).astype(np.int32)
    scored = np.arange(sequence) < lengths[:, None]
    tokens[:, 1:] = np.where(scored, tokens[:, 1:], filler[1:])
    counted = (token_bytes(vocabulary)[tokens[:, 1:]] * scored).sum(axis=1, dtype=np.int64)
    sources = tuple("docs" if number % 3 == 0 else "code" for number in range(count))
    return Rows.of(tokens, lengths=lengths, byte_counts=counted, sources=sources, filler=filler)
