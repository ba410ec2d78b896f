"""What a measurement says: the corrected score, overall, per source and per document."""

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ralph.data.dataset import Rows
from ralph.errors import ConfigurationError
from ralph.evaluate.cells import Cells, Floats, Integers
from ralph.evaluate.draw import Draw
from ralph.evaluate.estimator import LN2, Totals, bits_per_byte, totals
from ralph.protocol import measurement
from ralph.protocol.scoring_rules import EvaluationRules, ToleranceRules


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceScore:
    """The score on the documents of one source."""

    source: str
    val_bpb: float
    claimed_bpb: float
    standard_error_bpb: float
    """Of the correction, over draws of the probes."""
    documents: int
    tokens: int
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Score:
    """The score of one model on rows of hidden text; every loss is estimated to be causal."""

    val_bpb: float
    """Bits per true UTF-8 byte of the scored tokens."""
    claimed_bpb: float
    """The same from the claims alone."""
    correction_nats: float
    """Per token: what the probes add to the mean claim; about 0 for honest claims."""
    standard_error_nats: float
    """Of the correction per token, over draws of the probes. It says nothing about other documents or seeds."""
    per_source: tuple[SourceScore, ...]
    """Sorted by source."""
    exceedances: int
    """Probed cells over tau; an accepted measurement has none on CPU."""
    worst_mismatch_nats: float
    """Largest |claim - probe|."""
    cells: int
    """Draws of cells, with repetitions; 0 where the model's code is reviewed."""
    probes: int
    """Cells that were probed, each once."""
    documents: int
    tokens: int
    size_bytes: int
    tolerance: ToleranceRules
    """That the claims were accepted under."""
    claims: Floats = field(repr=False)
    """float64[C] frozen claims, mapped from a file that ends with them; private while the documents are hidden."""
    draw_seed: bytes
    document_nats: Floats = field(repr=False)
    """float64[N]: estimated sum of losses of each document."""
    worker_cpu_s: float
    """CPU seconds of all sandboxes of the measurement."""
    scoring_cpu_s: float
    """Those that the last phase, probes or exact losses, took once the model stood."""

    def published(self, rules: EvaluationRules) -> measurement.Score:
        """Return what a Measurement records of this score: no digit more than is needed, because a worker may choose the others."""
        decimals = rules.published_decimals
        sources = tuple(
            measurement.SourceValue(source=part.source, val_bpb=round(part.val_bpb, decimals), documents=part.documents)
            for part in self.per_source
        )
        return measurement.Score(
            val_bpb=round(self.val_bpb, decimals),
            claimed_bpb=round(self.claimed_bpb, decimals),
            correction_nats=_order(self.correction_nats),
            standard_error_nats=_order(self.standard_error_nats),
            worst_mismatch_nats=min(_order(self.worst_mismatch_nats), self.tolerance.worst_nats),
            cells=self.cells,
            exceedances=self.exceedances,
            documents=self.documents,
            draw=self.draw_seed,
            sources=sources,
        )


def _order(value: float) -> float:
    """Return the power of ten at or next above the size of ``value``, with its sign; 0 for 0."""
    return math.copysign(float(f"1e{math.ceil(math.log10(abs(value)))}"), value) if value else 0.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Audit:
    """Frozen claims and what the probes found.

    Args:
        claims: float64[C].
        draw: The drawn cells.
        probed: int64[M], the cells that were probed, ascending: all drawn ones, each once.
        truths: float64[M], their true losses.
    """

    claims: Floats
    draw: Draw
    probed: Integers
    truths: Floats


def true_bytes(rows: Rows, token_bytes: NDArray[np.uint8]) -> Integers:
    """Return the UTF-8 bytes of every row's scored tokens, int64[N], counted here and compared with what the data says.

    Raises:
        ConfigurationError: ``OPS-DATA``, the rows were made with another tokenizer.
    """
    counted = rows.count_bytes(token_bytes)
    if not np.array_equal(counted, rows.byte_counts):
        wrong = int(np.count_nonzero(counted != rows.byte_counts))
        raise ConfigurationError(f"{wrong} of {len(rows)} rows have other bytes than their tokens", code="OPS-DATA")
    return counted


def assemble(
    audit: Audit, rows: Rows, *, tolerance: ToleranceRules, token_bytes: NDArray[np.uint8], worker_cpu_s: float, scoring_cpu_s: float
) -> Score:
    """Compute the score from frozen claims and probes."""
    cells, drawn = Cells.of(rows.lengths), audit.draw.cells
    claims, truths = audit.claims[drawn], audit.truths[np.searchsorted(audit.probed, drawn)]
    mismatch = np.abs(audit.truths - audit.claims[audit.probed])
    row_of_drawn, claimed = cells.row(drawn), cells.sums(audit.claims)
    names = tuple(sorted(set(rows.sources)))
    source_of_row = np.array([names.index(source) for source in rows.sources], np.int64)
    size = true_bytes(rows, token_bytes)

    def grouped(group_of_row: Integers, count: int) -> Totals:
        sums: Floats = np.bincount(group_of_row, weights=claimed, minlength=count).astype(np.float64)
        return totals(audit.draw, claims, truths, claimed=sums, member=group_of_row[row_of_drawn])

    whole = grouped(np.zeros_like(source_of_row), 1)
    slices = grouped(source_of_row, len(names))
    documents = grouped(np.arange(len(rows)), len(rows))
    return Score(
        val_bpb=bits_per_byte(float(whole.nats[0]), int(size.sum())),
        claimed_bpb=bits_per_byte(float(whole.claimed[0]), int(size.sum())),
        correction_nats=float(whole.correction[0]) / cells.count,
        standard_error_nats=float(whole.standard_error[0]) / cells.count,
        per_source=_per_source(names, slices, source_of_row, cells.lengths, size),
        exceedances=int(np.count_nonzero(mismatch > tolerance.tau_nats)),
        worst_mismatch_nats=float(mismatch.max(initial=0.0)),
        cells=drawn.size,
        probes=audit.probed.size,
        documents=len(rows),
        tokens=cells.count,
        size_bytes=int(size.sum()),
        tolerance=tolerance,
        claims=audit.claims,
        draw_seed=audit.draw.seed,
        document_nats=documents.nats,
        worker_cpu_s=worker_cpu_s,
        scoring_cpu_s=scoring_cpu_s,
    )


def _per_source(
    names: tuple[str, ...], slices: Totals, source_of_row: Integers, lengths: Integers, size: Integers
) -> tuple[SourceScore, ...]:
    scores: list[SourceScore] = []
    for number, name in enumerate(names):
        inside = source_of_row == number
        size_bytes = int(size[inside].sum())
        scores.append(
            SourceScore(
                source=name,
                val_bpb=bits_per_byte(float(slices.nats[number]), size_bytes),
                claimed_bpb=bits_per_byte(float(slices.claimed[number]), size_bytes),
                standard_error_bpb=float(slices.standard_error[number]) / (LN2 * size_bytes),
                documents=int(np.count_nonzero(inside)),
                tokens=int(lengths[inside].sum()),
                size_bytes=size_bytes,
            )
        )
    return tuple(scores)
