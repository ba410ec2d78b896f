"""What the worker answers, asked over a real socket pair, with torch in this process as the judge."""

import socket
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from torch import nn

from ralph.train import wire
from ralph.worker import randomness, scoring, training
from ralph.worker.channel import DTYPES, Channel, ShapeError, from_wire, to_wire

VOCABULARY = 11
Reply = Callable[[], wire.Frame]


class Bigram(nn.Module):
    """Logits from the last token only, with dropout that must not act when scoring."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(VOCABULARY, VOCABULARY)
        self.dropout = nn.Dropout(0.5)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.dropout(self.table(tokens))


class Counting:
    """A trainer that does nothing but count."""

    def __init__(self) -> None:
        self.count = torch.tensor(0)

    def step(self, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        self.count += 1
        return tokens.double().mean(), torch.tensor(2.0)

    def state(self) -> dict[str, torch.Tensor]:
        return {"count": self.count}

    def load(self, state: dict[str, torch.Tensor]) -> None:
        self.count = state["count"].clone()


@pytest.fixture
def ends() -> Iterator[tuple[Channel, Reply]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield Channel(theirs.fileno()), lambda: wire.read(Channel(ours.fileno())._receive)


@pytest.fixture
def model() -> Bigram:
    torch.manual_seed(3)
    return Bigram().train()


def request(kind: wire.Kind, **arrays: np.ndarray) -> wire.Frame:
    return wire.Frame(kind, {"step": 5}, tuple(wire.Tensor(name, "i32", array.shape, array.tobytes()) for name, array in arrays.items()))


def tokens(rows: int, columns: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, VOCABULARY, (rows, columns)).astype("<i4")


def test_claims_are_float64_losses_of_every_token(ends: tuple[Channel, Reply], model: Bigram) -> None:
    channel, reply = ends
    rows = tokens(3, 8)
    scoring.claim(channel, model, VOCABULARY, request(wire.Kind.CLAIM, tokens=rows))
    answer = reply()
    claimed = np.frombuffer(answer.tensor("losses", "f64", (3, 7)).data).reshape(3, 7)
    wide = torch.from_numpy(rows.astype(np.int64))
    true = nn.functional.cross_entropy(model.table(wide[:, :-1]).double().transpose(1, 2), wide[:, 1:], reduction="none")
    assert answer.kind is wire.Kind.CLAIMS
    assert np.abs(claimed - true.detach().numpy()).max() < 1e-14


def test_probes_are_the_logits_at_the_asked_positions(ends: tuple[Channel, Reply], model: Bigram) -> None:
    channel, reply = ends
    rows, positions = tokens(4, 6), np.array([0, 5, 2, 2], "<i4")
    scoring.probe(channel, model, VOCABULARY, request(wire.Kind.PROBE, tokens=rows, positions=positions))
    logits = np.frombuffer(reply().tensor("logits", "f64", (4, VOCABULARY)).data).reshape(4, VOCABULARY)
    assert np.array_equal(logits, model.table.weight.detach().double().numpy()[rows[np.arange(4), positions]])


class Continuing(Bigram):
    """Continues a prefix, of which it needs nothing but that it was one."""

    asked: tuple[int, tuple[int, ...]] = (0, ())

    def continued(self, prefix: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        self.asked = prefix.numel(), tuple(rows.shape)
        return self(rows)


@pytest.mark.parametrize("length", [1, 4])
def test_continued_rows_get_losses_and_leads_of_all_their_tokens(length: int, ends: tuple[Channel, Reply]) -> None:
    channel, reply = ends
    torch.manual_seed(3)
    model = Continuing().train()
    prefix, rows = tokens(1, length)[0], tokens(3, 5)
    scoring.extend(channel, model, VOCABULARY, request(wire.Kind.EXTEND, prefix=prefix, rows=rows))
    answer = reply()
    losses, ahead = np.frombuffer(answer.tensor("answers", "f64", (2, 3, 5)).data).reshape(2, 3, 5)
    assert answer.kind is wire.Kind.EXTENDED
    assert model.asked == ((3, (3, 5)) if length == 4 else (0, ()))
    logits = model.table.weight.detach().double().numpy()[np.concatenate([np.tile(prefix[-1:], (3, 1)), rows[:, :-1]], 1)]
    for place in np.ndindex(3, 5):
        line, target = logits[place], int(rows[place])
        assert losses[place] == pytest.approx(np.log(np.exp(line).sum()) - line[target], abs=1e-12)
        assert ahead[place] == line[target] - np.delete(line, target).max()


def test_continued_logits_of_another_shape_are_named(ends: tuple[Channel, Reply]) -> None:
    class Short(Continuing):
        def continued(self, prefix: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
            return super().continued(prefix, rows)[:, 1:]

    with pytest.raises(ShapeError, match="expected"):
        scoring.extend(ends[0], Short(), VOCABULARY, request(wire.Kind.EXTEND, prefix=tokens(1, 4)[0], rows=tokens(2, 3)))


def test_scoring_leaves_a_training_model_in_training(ends: tuple[Channel, Reply], model: Bigram) -> None:
    channel, _ = ends
    before = randomness.capture()["worker.torch"]
    scoring.claim(channel, model, VOCABULARY, request(wire.Kind.CLAIM, tokens=tokens(2, 4)))
    assert model.training
    assert torch.equal(randomness.capture()["worker.torch"], before)
    assert model.table.weight.grad is None


@pytest.mark.parametrize(
    "wrong", [lambda logits: logits[:, :, :-1], lambda logits: logits[:, :-1], lambda logits: logits.sum(), lambda logits: [logits]]
)
def test_logits_of_another_shape_are_named(wrong: Callable[[torch.Tensor], object], ends: tuple[Channel, Reply], model: Bigram) -> None:
    channel, _ = ends
    model.register_forward_hook(lambda module, inputs, logits: wrong(logits))
    with pytest.raises(ShapeError, match="expected"):
        scoring.claim(channel, model, VOCABULARY, request(wire.Kind.CLAIM, tokens=tokens(2, 4)))


def test_a_step_reports_its_number_and_the_bits_of_both_figures(ends: tuple[Channel, Reply]) -> None:
    channel, reply = ends
    rows = tokens(2, 4)
    training.Steps(channel, Counting()).make(request(wire.Kind.BATCH, tokens=rows))
    answer = reply()
    assert answer.header == {"step": 5, "loss": np.float64(rows.mean()).tobytes(), "gradient_norm": np.float64(2.0).tobytes()}


def test_a_state_holds_the_trainers_and_the_generators_and_loads_both() -> None:
    trainer = Counting()
    trainer.count += 3
    saved = {name: tensor.clone() for name, tensor in training.state(trainer).items()}
    assert set(saved) > {"count", "worker.torch", "worker.python", "worker.numpy"}
    expected = torch.randn(3)
    fresh = Counting()
    training.load(fresh, saved)
    assert int(fresh.count) == 3
    assert torch.equal(torch.randn(3), expected)


def test_a_recipe_may_not_name_its_state_like_ours() -> None:
    trainer = Counting()
    trainer.state = lambda: {"worker.torch": torch.zeros(1)}
    with pytest.raises(ShapeError):
        training.state(trainer)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 2), (2, 3)])
def test_a_tensor_of_every_type_survives_the_wire(dtype: torch.dtype, shape: tuple[int, ...], ends: tuple[Channel, Reply]) -> None:
    channel, reply = ends
    tensor = torch.arange(6).to(dtype)[: int(np.prod(shape))].reshape(shape)
    channel.send_tensors({"t": tensor})
    received = from_wire(reply().tensors[0])
    assert received.dtype == dtype
    assert received.shape == tensor.shape
    assert received.tolist() == tensor.tolist()


def test_a_view_is_sent_as_what_it_shows(ends: tuple[Channel, Reply]) -> None:
    channel, reply = ends
    channel.send_tensors({"t": torch.arange(6.0).reshape(2, 3).T})
    assert from_wire(reply().tensors[0]).tolist() == [[0, 3], [1, 4], [2, 5]]


def test_tensors_go_out_sorted_by_name(ends: tuple[Channel, Reply]) -> None:
    channel, reply = ends
    channel.send_tensors({name: torch.zeros(1) for name in ("b", "a.10", "a.2")})
    assert [tensor.name for tensor in reply().tensors] == ["a.10", "a.2", "b"]


@pytest.mark.parametrize("value", [1.0, None, torch.zeros(2, dtype=torch.complex64), torch.eye(2).to_sparse()])
def test_what_is_no_plain_tensor_is_named(value: object) -> None:
    with pytest.raises(ShapeError, match="'weight'"):
        to_wire("weight", value)
