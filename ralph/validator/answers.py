"""What proof runs answered to single items of tasks: kept in the event table and the private store, because a run repeats nothing here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ralph.evaluate.core22.examining import Examined, Graded, Kept
from ralph.interfaces import BundleStore
from ralph.judge.plan import Need
from ralph.protocol.canonical import decode, encode
from ralph.protocol.measurement import sits_exams
from ralph.records.events import EventTable

RUN, KING = "proof-answers", "king-answers"
MAX_ANSWERS_BYTES = 1 << 28


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """The answers of every examined proof run, and those of the king that weighted draws compare with."""

    events: EventTable
    private: BundleStore

    def keep(self, need: Need, examined: Sequence[Examined]) -> None:
        """Remember what an examined run, the king's or a challenger's, answered; a second time nothing changes."""
        if not sits_exams(need.role, need.stage, need.subset) or self.events.get(RUN, _name(need.tree, need.seed)) is not None:
            return
        for one in examined if need.role == "king" else ():
            key = f"{need.tree.hex()}/{one.examination.name}"
            if self.events.get(KING, key) is None:
                kept = {label: [answers.losses, answers.hits] for label, answers in one.kept.items()}
                self.events.append(KING, key, self.private.put(encode(kept)))
        plain = {part.name: _plain(part) for one in examined for part in one.parts}
        self.events.append(RUN, _name(need.tree, need.seed), self.private.put(encode(plain)))

    def find(self, tree: bytes, seed: int) -> Mapping[str, Graded] | None:
        """Return task -> answers of a proof run, or None where it has none."""
        digest = self.events.get(RUN, _name(tree, seed))
        if digest is None:
            return None
        plain = decode(self.private.get(digest, limit=MAX_ANSWERS_BYTES), limit=MAX_ANSWERS_BYTES)
        return {name: _graded(name, part) for name, part in plain.items()}

    def king(self, tree: bytes, names: Sequence[str]) -> dict[str, dict[str, Kept]]:
        """Return a king's answers to these examinations, by task; an examination that he has not sat is left out."""
        found: dict[str, dict[str, Kept]] = {}
        for name in names:
            digest = self.events.get(KING, f"{tree.hex()}/{name}")
            if digest is not None:
                plain = decode(self.private.get(digest, limit=MAX_ANSWERS_BYTES), limit=MAX_ANSWERS_BYTES)
                found[name] = {label: Kept(losses=losses, hits=hits) for label, (losses, hits) in plain.items()}
        return found


def _name(tree: bytes, seed: int) -> str:
    return f"{tree.hex()}/{seed:016x}"


def _plain(part: Graded) -> list[bytes]:
    return [part.correct.tobytes(), part.gold_nats.astype("<f8").tobytes(), part.gold_bytes.astype("<i8").tobytes()]


def _graded(name: str, plain: Sequence[bytes]) -> Graded:
    correct, nats, sizes = plain
    return Graded(
        name=name,
        correct=np.frombuffer(correct, np.bool_),
        gold_nats=np.frombuffer(nats, "<f8"),
        gold_bytes=np.frombuffer(sizes, "<i8"),
    )
