"""An evaluation in pieces: the values of its definition, memory for documents and not for tokens, and nothing left behind."""

import resource
import signal
import stat
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ralph.data.dataset import DocumentSet, Rows
from ralph.data.layout import INDEX
from ralph.errors import ConfigurationError, InfrastructureError, UntrustedInputError
from ralph.evaluate import claims, measure
from ralph.evaluate.cells import Cells
from ralph.evaluate.loading import Model
from ralph.evaluate.measure import Exam
from ralph.evaluate.score import Score
from ralph.evaluate.sheet import new_sheet
from ralph.store.directory import DirectoryStore
from ralph.train import safetensors, wire
from tests.evaluate import plain
from tests.evaluate.material import KEY, RECIPE, every, rows, rules, rung, token_bytes
from tests.evaluate.simulator import VOCABULARY, Bigram, SimulatedSandbox

SEQUENCE = 24
ROWS = rows(count=300, sequence=SEQUENCE, vocabulary=VOCABULARY)
CELLS = Cells.of(ROWS.lengths)
TABLE = np.random.default_rng(8).normal(0, 1.5, (VOCABULARY, VOCABULARY)).astype("<f4")
WEIGHTS = safetensors.dump([wire.Tensor("table", "f32", TABLE.shape, TABLE.tobytes())])
FEW, MANY = 2_000, 64_000
LONG = 160
"""Tokens of the longest row where memory is measured."""


class Noisy(Bigram):
    """Claims a little more or less than the truth, below the tolerance, so that there is something to correct."""

    def claim(self, tokens: np.ndarray) -> np.ndarray:
        return super().claim(tokens) + 1e-6 * np.sin(1.0 + tokens[:, 1:] * 7.0 + tokens[:, :-1])


class Nothing(Bigram):
    """Claims and answers that every token is as likely as any other, without looking."""

    def claim(self, tokens: np.ndarray) -> np.ndarray:
        return np.full((tokens.shape[0], tokens.shape[1] - 1), np.log(VOCABULARY))

    def probe(self, tokens: np.ndarray, positions: np.ndarray) -> np.ndarray:
        return np.zeros((positions.size, VOCABULARY))


class NotANumber(Noisy):
    def claim(self, tokens: np.ndarray) -> np.ndarray:
        return np.where(tokens[:, 1:] == 7, np.nan, super().claim(tokens))


class LookAhead(Noisy):
    def claim(self, tokens: np.ndarray) -> np.ndarray:
        return 0.01 * super().claim(tokens)


def model(kind: type[Bigram]) -> Bigram:
    made = kind()
    made.table = TABLE.astype(np.float64)
    return made


def king_losses() -> np.ndarray:
    truth = CELLS.flatten(model(Bigram).claim(every(ROWS)))
    return np.maximum(truth + np.random.default_rng(3).normal(0.02, 0.3, CELLS.count), 0.0)


def run(
    kind: type[Bigram],
    *,
    scratch: Path | None = None,
    king: np.ndarray | None = None,
    data: Rows = ROWS,
    sandbox: SimulatedSandbox | None = None,
    batch_rows: int = 32,
) -> Score:
    exam = Exam(
        model=Model(
            sandbox=sandbox or SimulatedSandbox(models=lambda _: kind()),
            recipe=RECIPE,
            weights=WEIGHTS,
            rung=rung(sequence=data.sequence),
            vocabulary=VOCABULARY,
        ),
        rules=rules(uniform=400, weighted=100, batch_rows=batch_rows),
        rows=data,
        key=KEY,
        king=king,
        scratch=scratch,
    )
    return measure.score(exam, token_bytes(VOCABULARY))


@pytest.mark.parametrize("with_king", [True, False])
def test_a_score_has_the_values_of_its_definition(with_king: bool) -> None:
    king = king_losses() if with_king else None
    score = run(Noisy, king=king)
    claimed, truth = (CELLS.flatten(model(kind).claim(every(ROWS))) for kind in (Noisy, Bigram))
    assert np.array_equal(score.claims, claimed)
    drawn = plain.draw(KEY, claimed, king, uniform=400, weighted=100)
    expected = plain.values(claimed, drawn, truth[drawn.cells], ROWS)
    assert score.draw_seed == drawn.seed
    assert abs(score.correction_nats) > 1e-9
    for name in ("val_bpb", "claimed_bpb"):
        assert getattr(score, name) == pytest.approx(getattr(expected, name), rel=1e-12)
    for name in ("correction_nats", "standard_error_nats"):  # of differences of 1e-6: eight digits of a loss are gone
        assert getattr(score, name) == pytest.approx(getattr(expected, name), rel=1e-7)
    assert score.document_nats == pytest.approx(expected.document_nats, rel=1e-12)
    for part in score.per_source:
        nats, said, error, *counts = expected.sources[part.source]
        assert (part.val_bpb, part.claimed_bpb) == pytest.approx((nats, said), rel=1e-12)
        assert part.standard_error_bpb == pytest.approx(error, rel=1e-7)
        assert [part.documents, part.tokens, part.size_bytes] == counts


def test_the_kings_losses_may_lie_in_the_private_store(tmp_path: Path) -> None:
    king = king_losses()
    store = DirectoryStore(tmp_path)
    kept = store.map(store.put(king.view(np.uint8).data), limit=king.nbytes)
    assert run(Noisy, king=np.frombuffer(kept, "<f8")).published(rules(uniform=400, weighted=100)) == run(Noisy, king=king).published(
        rules(uniform=400, weighted=100)
    )


def documents(count: int, path: Path) -> DocumentSet:
    """Return documents of 80 to 200 tokens, which lie in a file."""
    generator = np.random.default_rng(count)
    lengths = generator.integers(80, 201, count)
    starts = np.cumsum(lengths + 1) - lengths
    tokens = generator.integers(1, VOCABULARY, int((lengths + 1).sum())).astype("<u2")
    tokens[starts - 1] = 0
    tokens.tofile(path)
    index = np.zeros(count, INDEX)
    index["offset"], index["tokens"], index["source"] = starts, lengths, np.arange(count) % 3 == 0
    return DocumentSet(
        directory=path.parent,
        tokens=np.memmap(path, "<u2", mode="r"),
        index=index,
        source_names=("code", "docs"),
        token_bytes=token_bytes(VOCABULARY),
        pattern=np.arange(1, VOCABULARY, dtype=np.uint16),
    )


def peak_bytes(pool: DocumentSet, scratch: Path) -> tuple[int, int]:
    """Return the scored tokens of an evaluation of all documents, and the most memory that it and its rows took."""
    king = np.full(int(np.minimum(pool.index["tokens"], LONG).sum()), 4.0)
    sandbox = SimulatedSandbox(models=lambda _: Nothing(), recorded=False)
    tracemalloc.start()
    try:
        score = run(Nothing, scratch=scratch, king=king, data=pool.rows(None, LONG), sandbox=sandbox, batch_rows=256)
        return score.tokens, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_grows_with_documents_and_not_with_tokens(tmp_path: Path) -> None:
    few, many = (peak_bytes(documents(count, tmp_path / str(count)), tmp_path) for count in (FEW, MANY))
    tokens, growth = many[0] - few[0], many[1] - few[1]
    assert tokens > 8_000_000
    assert growth < 150 * (MANY - FEW)
    assert growth < 8 * tokens / 5


def held(folder: Path) -> list[str]:
    """Return what of this process, open or mapped, lies in a folder."""
    descriptors = [str(one.readlink()) for one in Path("/proc/self/fd").iterdir() if one.is_symlink()]
    return [line for line in [*descriptors, *Path("/proc/self/maps").read_text().splitlines()] if str(folder) in line]


def test_a_file_of_claims_has_no_name_and_is_for_its_owner_only(tmp_path: Path) -> None:
    seen = []

    class Looking(Noisy):
        def claim(self, tokens: np.ndarray) -> np.ndarray:
            seen.extend(one.stat() for one in Path("/proc/self/fd").iterdir() if lies_in(one, tmp_path))
            assert not list(tmp_path.iterdir())
            return super().claim(tokens)

    score = run(Looking, scratch=tmp_path)
    assert len(seen) == 10
    assert {(status.st_nlink, stat.S_IMODE(status.st_mode), status.st_size) for status in seen} == {(0, 0o600, 8 * CELLS.count)}
    assert held(tmp_path), "the claims of the score"
    with pytest.raises(ValueError, match="read-only"):
        score.claims[0] = 0.0
    del score
    assert not held(tmp_path)


def lies_in(descriptor: Path, folder: Path) -> bool:
    return descriptor.is_symlink() and str(folder) in str(descriptor.readlink())


@pytest.mark.parametrize(("kind", "code"), [(NotANumber, "RUN-NAN"), (LookAhead, "FRD-CLAIM")])
def test_an_evaluation_that_was_refused_holds_no_file(kind: type[Bigram], code: str, tmp_path: Path) -> None:
    def refused() -> str:
        try:
            run(kind, scratch=tmp_path)
        except UntrustedInputError as error:
            return str(error.code)
        return "scored"

    assert refused() == code
    assert not held(tmp_path)
    assert not list(tmp_path.iterdir())


KILLED = """
import sys
from pathlib import Path
from tests.evaluate.test_streams import Noisy, run

class Hanging(Noisy):
    batches = 0
    def claim(self, tokens):
        Hanging.batches += 1
        if Hanging.batches == 3:
            print("claiming", flush=True)
            sys.stdin.read()
        return super().claim(tokens)

run(Hanging, scratch=Path(sys.argv[1]))
"""


def test_a_killed_evaluation_leaves_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    with subprocess.Popen(command, cwd=Path(__file__).parents[2], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"claiming\n"
        files = [one for one in Path(f"/proc/{process.pid}/fd").iterdir() if lies_in(one, tmp_path)]
        process.send_signal(signal.SIGKILL)
    assert len(files) == 1
    assert not list(tmp_path.iterdir())


def limited(work: Callable[[], object], size_bytes: int) -> None:
    """Do something while no file may be larger."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        work()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_claims_that_find_no_room_are_ours_to_retry(tmp_path: Path) -> None:
    with pytest.raises(InfrastructureError) as deferred:
        limited(lambda: run(Noisy, scratch=tmp_path), 4 * CELLS.count)
    assert deferred.value.code == "OPS-DISK"


def test_a_directory_that_is_not_there_is_ours(tmp_path: Path) -> None:
    with pytest.raises((InfrastructureError, ConfigurationError), match="missing"):
        run(Noisy, scratch=tmp_path / "missing")


def test_rows_without_tokens_have_no_file(tmp_path: Path) -> None:
    with new_sheet(Cells.of(np.zeros(3, np.int64)), tmp_path) as sheet:
        sheet.write(np.array([2, 0]), np.ones((2, 4)))
        assert sheet.frozen().size == 0


@pytest.mark.parametrize("piece", [1, 7, 64])
def test_impossible_claims_are_found_in_order_up_to_a_number(piece: int) -> None:
    said = np.random.default_rng(0).normal(0.5, 1.0, 60)
    every_one = np.flatnonzero(said < -0.1)
    for most in (0, 1, 3, 60):
        assert claims.below(said, -0.1, most=most, piece=piece).tolist() == every_one[:most].tolist()
