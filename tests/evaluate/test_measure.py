"""The measurement, with numpy workers in this process: who gets what when, and what each kind of lie leads to."""

import math
from collections.abc import Callable

import numpy as np
import pytest

from ralph.errors import ConfigurationError, InfrastructureError, UntrustedInputError
from ralph.evaluate import claims as claiming
from ralph.evaluate import measure
from ralph.evaluate.cells import Cells
from ralph.evaluate.draw import draw
from ralph.evaluate.estimator import bits_per_byte
from ralph.evaluate.loading import Model
from ralph.evaluate.measure import Exam, Revealed, reveal
from ralph.evaluate.redraw import gain, redraw
from ralph.evaluate.score import Score
from ralph.protocol.measurement import Score as PublishedScore
from ralph.train import safetensors, wire
from tests.evaluate.material import KEY, RECIPE, every, rows, rules, rung, token_bytes
from tests.evaluate.simulator import VOCABULARY, Bigram, SimulatedSandbox

SEQUENCE = 24
ROWS = rows(count=45, sequence=SEQUENCE, vocabulary=VOCABULARY)
TABLE = np.random.default_rng(8).normal(0, 1.5, (VOCABULARY, VOCABULARY)).astype("<f4")
WEIGHTS = safetensors.dump([wire.Tensor("table", "f32", TABLE.shape, TABLE.tobytes())])
CELLS = Cells.of(ROWS.lengths)
LIMITS = rules(uniform=96, weighted=32)


def honest_losses() -> np.ndarray:
    model = Bigram()
    model.table = TABLE.astype(np.float64)
    return CELLS.flatten(model.claim(every(ROWS)))


def king_losses() -> np.ndarray:
    return np.maximum(honest_losses() + np.random.default_rng(3).normal(0.02, 0.3, CELLS.count), 0.0)


def exam(
    sandbox: SimulatedSandbox,
    *,
    weights: bytes = WEIGHTS,
    key: bytes = KEY,
    king: np.ndarray | None = None,
    uniform: int = 96,
    weighted: int = 32,
) -> Exam:
    return Exam(
        model=Model(
            sandbox=sandbox,
            recipe=RECIPE,
            weights=weights,
            rung=rung(sequence=SEQUENCE),
            vocabulary=VOCABULARY,
        ),
        rules=rules(uniform=uniform, weighted=weighted),
        rows=ROWS,
        key=key,
        king=king,
    )


def run(sandbox: SimulatedSandbox, *, key: bytes = KEY, king: np.ndarray | None = None, uniform: int = 96, weighted: int = 32) -> Score:
    beside = king_losses() if king is None else king
    return measure.score(exam(sandbox, key=key, king=beside, uniform=uniform, weighted=weighted), token_bytes(VOCABULARY))


def revealed(model: type[Bigram]) -> Revealed:
    return reveal(exam(SimulatedSandbox(models=lambda _: model()), king=king_losses()))


class LookAhead(Bigram):
    """Claims next to nothing, and answers honestly where it can be checked."""

    def claim(self, tokens: np.ndarray) -> np.ndarray:
        return 0.01 * super().claim(tokens)


class OnePercent(Bigram):
    """Claims the truth but for one token in a hundred."""

    def claim(self, tokens: np.ndarray) -> np.ndarray:
        chosen = (tokens[:, 1:].astype(np.int64) * 7919 + tokens[:, :-1] * 31 + np.arange(tokens.shape[1] - 1)) % 100 == 0
        return np.where(chosen, 0.0, super().claim(tokens))


class Memory(Bigram):
    """Counts pairs of tokens over all rows it has seen and predicts with them: the score of row n leans on rows before it."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = np.zeros((VOCABULARY, VOCABULARY))

    def claim(self, tokens: np.ndarray) -> np.ndarray:
        before, self.table = self.table, self.table + np.log1p(self.seen)
        losses = super().claim(tokens)
        self.table = before
        np.add.at(self.seen, (tokens[:, :-1], tokens[:, 1:]), 1)
        return losses

    def probe(self, tokens: np.ndarray, positions: np.ndarray) -> np.ndarray:
        logits = super().probe(tokens, positions) + np.log1p(self.seen[tokens[np.arange(len(positions)), positions]])
        for line, position in zip(tokens, positions, strict=True):
            np.add.at(self.seen, (line[:position], line[1 : position + 1]), 1)
        return logits


class ShortPrefixes(Bigram):
    """Knows that short prefixes mean a probe and long ones look like claims, and answers well only for long ones."""

    def probe(self, tokens: np.ndarray, positions: np.ndarray) -> np.ndarray:
        return np.where(positions[:, None] < 6, 0.0, super().probe(tokens, positions))


class Deflated(Bigram):
    """Leaves out part of the sum of exponentials."""

    def claim(self, tokens: np.ndarray) -> np.ndarray:
        return np.maximum(super().claim(tokens) - 0.05, 0.0)


class Giant(Bigram):
    """Equal logits so large that log-sum-exp minus logit rounds to 0."""

    def claim(self, tokens: np.ndarray) -> np.ndarray:
        return np.zeros((tokens.shape[0], tokens.shape[1] - 1))

    def probe(self, tokens: np.ndarray, positions: np.ndarray) -> np.ndarray:
        return np.full((len(positions), VOCABULARY), 1e17)


class OneHugeCredit(Bigram):
    """Claims a loss of minus a million for a single token: in all likelihood it would not be drawn."""

    def claim(self, tokens: np.ndarray) -> np.ndarray:
        losses = super().claim(tokens)
        losses[np.all(tokens == every(ROWS)[17], axis=1), 0] = -1e6
        return losses


class Unnormalised(Bigram):
    """Honest, but every row of logits carries a constant of its own."""

    def probe(self, tokens: np.ndarray, positions: np.ndarray) -> np.ndarray:
        return super().probe(tokens, positions) + 1000.0 * np.arange(len(positions))[:, None]


class NotANumber(Bigram):
    def probe(self, tokens: np.ndarray, positions: np.ndarray) -> np.ndarray:
        logits = super().probe(tokens, positions)
        logits[0, 3] = math.nan
        return logits


class NotANumberClaimed(Bigram):
    def claim(self, tokens: np.ndarray) -> np.ndarray:
        return np.where(tokens[:, 1:] == 7, math.nan, super().claim(tokens))


class AnotherShape(Bigram):
    def claim(self, tokens: np.ndarray) -> np.ndarray:
        return super().claim(tokens)[:, :-1]


def test_an_honest_model_needs_no_correction_and_gets_its_true_loss() -> None:
    sandbox = SimulatedSandbox(models=lambda _: Bigram())
    score = run(sandbox)
    size = int(ROWS.byte_counts.sum())
    assert score.val_bpb == pytest.approx(bits_per_byte(float(honest_losses().sum()), size), abs=1e-13)
    assert abs(score.correction_nats) < 1e-13
    assert score.exceedances == 0
    assert score.worst_mismatch_nats < 1e-12
    assert score.cells == 128
    assert score.probes <= 128
    assert score.worker_cpu_s == 0.5
    assert [event for event in sandbox.events if event[1] == "launched"] == [(0, "launched"), (1, "launched")]


def test_sources_and_documents_of_a_score_add_up() -> None:
    score = run(SimulatedSandbox(models=lambda _: Bigram()))
    weighted = sum(part.val_bpb * part.size_bytes for part in score.per_source) / score.size_bytes
    assert weighted == pytest.approx(score.val_bpb, rel=1e-12)
    assert [part.source for part in score.per_source] == ["code", "docs"]
    assert sum(part.tokens for part in score.per_source) == score.tokens == CELLS.count
    assert sum(part.documents for part in score.per_source) == score.documents == 45
    assert bits_per_byte(float(score.document_nats.sum()), score.size_bytes) == pytest.approx(score.val_bpb, rel=1e-12)


def test_what_is_published_is_a_canonical_score_with_the_seed_of_its_draw() -> None:
    score = run(SimulatedSandbox(models=lambda _: Bigram()))
    published = score.published(LIMITS)
    assert PublishedScore.from_bytes(published.to_bytes(), limit=10_000) == published
    assert published.draw == score.draw_seed


class Whispering(Bigram):
    """Writes a number of its own into the digits of its claims that no probe looks at."""

    secret = 0

    def claim(self, tokens: np.ndarray) -> np.ndarray:
        return super().claim(tokens) + 1e-9 * self.secret


def test_no_published_digit_shows_what_a_worker_writes_below_the_tolerance() -> None:
    """T26: seven bits of hidden text in every claim; the claims stay here, and the Measurement is the same but for the seed of the draw."""
    said = []
    for secret in range(0, 128, 9):
        whispering = type("Whispering", (Whispering,), {"secret": secret})
        published = run(SimulatedSandbox(models=lambda _, model=whispering: model())).published(LIMITS)
        said.append((published.val_bpb, published.claimed_bpb, tuple(source.val_bpb for source in published.sources)))
        assert published.worst_mismatch_nats in (0.0, 1e-15, 1e-14, 1e-9, 1e-8, 1e-7, 1e-6)
    assert len(set(said)) <= 2


def test_the_second_sandbox_starts_early_but_gets_nothing_before_the_first_is_destroyed() -> None:
    sandbox = SimulatedSandbox(models=lambda _: Bigram())
    run(sandbox)
    events = sandbox.events
    assert events[:2] == [(0, "launched"), (1, "launched")]
    first_word = events.index((1, "SETUP"))
    assert events.index((0, "killed")) < first_word
    assert not [event for event in events[first_word:] if event[0] == 0]
    assert {kind for number, kind in events if number == 1} == {"launched", "SETUP", "LOAD", "PROBE", "killed"}


def test_the_probed_worker_never_receives_what_it_predicts() -> None:
    """Every answer is committed before a longer prefix of the same document, so no frame or earlier frame holds its target."""
    sandbox = SimulatedSandbox(models=lambda _: Bigram())
    run(sandbox)
    known, longest = every(ROWS), dict[bytes, int]()
    count = 0
    for frame in sandbox.workers[1].frames:
        if frame.kind is not wire.Kind.PROBE:
            continue
        tokens = np.frombuffer(frame.tensors[0].data, "<i4").reshape(8, -1)
        positions = np.frombuffer(frame.tensors[1].data, "<i4")
        documents = []
        for line, position in zip(tokens, positions.tolist(), strict=True):
            assert np.array_equal(line[position + 1 :], ROWS.filler[position + 1 : tokens.shape[1]])
            matches = np.flatnonzero(np.all(known[:, : position + 1] == line[: position + 1], axis=1))
            if matches.size == 1:
                document = known[matches[0]].tobytes()
                assert position > longest.get(document, -1)
                longest[document] = position
                documents.append(document)
                count += 1
        assert len(set(documents)) == len(documents)
    assert count > 80


def test_a_cell_that_is_drawn_twice_is_probed_once() -> None:
    sandbox = SimulatedSandbox(models=lambda _: Bigram())
    score = run(sandbox, uniform=4000, weighted=500)
    assert score.cells == 4500
    assert score.probes <= CELLS.count
    batches = [frame for frame in sandbox.workers[1].frames if frame.kind is wire.Kind.PROBE]
    assert len(batches) <= math.ceil(CELLS.count / 8) + 2 * SEQUENCE


def test_the_same_key_gives_the_same_score_bit_for_bit() -> None:
    one, two = (run(SimulatedSandbox(models=lambda _: Bigram())) for _ in range(2))
    assert one.published(LIMITS).to_bytes() == two.published(LIMITS).to_bytes()


@pytest.mark.parametrize("model", [LookAhead, OnePercent, Memory, ShortPrefixes, Deflated, Giant, OneHugeCredit])
def test_claims_that_prefixes_do_not_support_are_fraud(model: type[Bigram]) -> None:
    sandbox = SimulatedSandbox(models=lambda _: model())
    with pytest.raises(UntrustedInputError, match="again in a replay") as refusal:
        run(sandbox, uniform=500, weighted=100)
    assert refusal.value.code == "FRD-CLAIM"
    assert len(sandbox.workers) == 4


@pytest.mark.parametrize(("model", "code"), [(NotANumber, "RUN-NAN"), (NotANumberClaimed, "RUN-NAN"), (AnotherShape, "RUN-SHAPE")])
def test_answers_that_are_no_numbers_or_have_another_shape_are_refused(model: type[Bigram], code: str) -> None:
    with pytest.raises(UntrustedInputError) as refusal:
        run(SimulatedSandbox(models=lambda _: model()))
    assert refusal.value.code == code


def test_unnormalised_logits_change_nothing() -> None:
    plain, shifted = (run(SimulatedSandbox(models=lambda _, model=model: model())) for model in (Bigram, Unnormalised))
    assert shifted.val_bpb == pytest.approx(plain.val_bpb, abs=1e-12)


@pytest.mark.parametrize("model", [LookAhead, OnePercent, Deflated, OneHugeCredit, Giant])
def test_a_liar_gains_nothing_over_his_honest_twin_on_average(model: type[Bigram]) -> None:
    lie = revealed(model)
    king = king_losses()
    limits = rules(uniform=96, weighted=32)
    cheat = redraw(lie.claims, lie.truths, king, rules=limits, key=KEY, times=2000)
    honest = redraw(lie.truths, lie.truths, king, rules=limits, key=KEY, times=2)
    assert abs(gain(cheat, honest).standard_errors) < 0.1


def faulty_once(glitches: Callable[[Bigram, int], None]) -> Callable[[int], Bigram]:
    def models(number: int) -> Bigram:
        model = Bigram()
        glitches(model, number)
        return model

    return models


def test_a_wrong_claim_that_does_not_come_back_is_ours() -> None:
    def glitch(model: Bigram, number: int) -> None:
        if number == 0:
            model.claim = lambda tokens: Bigram.claim(model, tokens) + (tokens[:, 1:] % 5 == 0) * 1e-3

    with pytest.raises(InfrastructureError) as deferred:
        run(SimulatedSandbox(models=faulty_once(glitch)))
    assert deferred.value.code == "OPS-NUMERIC"


def test_a_wrong_probe_that_does_not_come_back_is_ours() -> None:
    def glitch(model: Bigram, number: int) -> None:
        if number == 1:
            model.probe = lambda tokens, positions: Bigram.probe(model, tokens, positions) * 1.01

    with pytest.raises(InfrastructureError) as deferred:
        run(SimulatedSandbox(models=faulty_once(glitch)))
    assert deferred.value.code == "OPS-NUMERIC"


def test_lying_at_random_is_fraud_as_soon_as_one_lie_repeats() -> None:
    def shuffle(model: Bigram, number: int) -> None:
        def claim(tokens: np.ndarray) -> np.ndarray:
            losses = Bigram.claim(model, tokens)
            return np.where(np.random.default_rng(number).random(losses.shape) < 0.3, 0.0, losses)

        model.claim = claim

    with pytest.raises(UntrustedInputError, match="FRD-CLAIM"):
        run(SimulatedSandbox(models=faulty_once(shuffle)))


def test_the_replay_repeats_the_requests_bit_for_bit() -> None:
    sandbox = SimulatedSandbox(models=lambda _: OnePercent())
    with pytest.raises(UntrustedInputError):
        run(sandbox, uniform=500, weighted=100)
    for first, again in ((0, 2), (1, 3)):
        sent = [[bytes(tensor.data) for frame in sandbox.workers[number].frames for tensor in frame.tensors] for number in (first, again)]
        assert sent[0] == sent[1]


def test_a_worker_that_ends_itself_in_the_replay_is_rejected() -> None:
    class Coward(LookAhead):
        def __init__(self, number: int) -> None:
            super().__init__()
            self.number = number

        def claim(self, tokens: np.ndarray) -> np.ndarray:
            if self.number == 2:
                raise UntrustedInputError("RUN-CRASH", "the worker ended")
            return super().claim(tokens)

    with pytest.raises(UntrustedInputError) as refusal:
        run(SimulatedSandbox(models=Coward))
    assert refusal.value.code == "RUN-CRASH"


def test_claims_of_a_training_worker_are_audited_in_one_further_sandbox() -> None:
    model = Bigram()
    model.table = TABLE.astype(np.float64)
    frozen = claiming.collect(model.claim, ROWS, batch_rows=8, key=KEY)
    sandbox = SimulatedSandbox(models=lambda _: Bigram())
    score = measure.audit(frozen, exam(sandbox), token_bytes(VOCABULARY))
    assert len(sandbox.workers) == 1
    assert score.claims is frozen
    assert score.val_bpb == pytest.approx(run(SimulatedSandbox(models=lambda _: Bigram())).val_bpb, abs=1e-13)


def test_the_weighted_draws_go_where_the_king_is_claimed_to_be_beaten() -> None:
    sandbox = SimulatedSandbox(models=lambda _: Bigram())
    king = honest_losses()
    king[CELLS.offsets[5] + 3] += 1.0
    score = run(sandbox, king=king, uniform=2, weighted=40)
    drawn = draw(KEY, score.claims, king, uniform=2, weighted=40)
    assert set(drawn.cells[2:].tolist()) == {int(CELLS.offsets[5]) + 3}


def test_foreign_weights_are_checked_before_a_worker_sees_them() -> None:
    sandbox = SimulatedSandbox(models=lambda _: Bigram())
    broken = TABLE.copy()
    broken[3, 3] = math.inf
    with pytest.raises(UntrustedInputError, match="RUN-NAN"):
        exam(sandbox, weights=safetensors.dump([wire.Tensor("table", "f32", TABLE.shape, broken.tobytes())]))
    with pytest.raises(UntrustedInputError, match="INT-SCHEMA"):
        exam(sandbox, weights=WEIGHTS[:-4])
    assert not sandbox.workers


def test_rows_of_another_tokenizer_or_shape_are_our_mistake() -> None:
    with pytest.raises(ConfigurationError, match="not of their"):
        run(SimulatedSandbox(models=lambda _: Bigram()), king=np.zeros(CELLS.count - 1))
    with pytest.raises(ConfigurationError) as refusal:
        measure.score(exam(SimulatedSandbox(models=lambda _: Bigram())), np.ones(VOCABULARY, np.uint8))
    assert refusal.value.code == "OPS-DATA"
