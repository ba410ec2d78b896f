"""The outcome of a demo: what happened, what a demo must show, and whether it did.

The document is for programs: plain JSON in which a value that was not measured is absent. What it says of
the protocol comes from verified Records and from the chain; only the private experiments are read from the
miners' own ledgers, which is where they happened.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from ralph import __version__
from ralph.agent.experiment import Decision, Experiment, Kind
from ralph.chain.consensus import upscale
from ralph.protocol.announcement import Environment
from ralph.protocol.canonical import Canonical
from ralph_devnet.facts import CastFact, KingFact, SubmissionFact
from ralph_devnet.words import STATES, count, safe

FORMAT = "ralph-demo-outcome/1"
HONEST_DISCARD_SHARE = 0.5
REPRODUCED = 0
TRIED = (Kind.PROPOSAL,)
"""Experiments that count as tries: baselines, rebases and confirmations are bookkeeping."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """One experiment of one honest miner, as his ledger has it."""

    miner: str
    number: int
    reign: int
    kind: str
    proposer: str
    change: str
    decision: str
    reason: str
    val_bpb: float | None
    gain_bpb: float | None
    standard_error_bpb: float | None
    runs: int

    @classmethod
    def of(cls, miner: str, experiment: Experiment) -> "Tried":
        """Take over what the ledger says."""
        return cls(
            miner=miner,
            number=experiment.number,
            reign=experiment.reign,
            kind=experiment.kind.value,
            proposer=experiment.proposer,
            change=experiment.change,
            decision=experiment.decision.value,
            reason=experiment.reason,
            val_bpb=experiment.val_bpb,
            gain_bpb=experiment.gain_bpb,
            standard_error_bpb=experiment.standard_error_bpb,
            runs=sum(pair.challenger_bpb is not None for pair in experiment.pairs),
        )

    @property
    def counts(self) -> bool:
        """Return whether the experiment tried an idea."""
        return self.kind in TRIED

    @property
    def kept(self) -> bool:
        """Return whether the idea was kept."""
        return self.decision == Decision.KEEP


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """Who is paid: what the Records give, and what the validator's row on chain says. Both by name, of 65535."""

    due: Mapping[str, int]
    on_chain: Mapping[str, int]

    @property
    def equal(self) -> bool:
        """Return whether weights are set and are those that the Records give."""
        return bool(self.due) and upscale(self.due) == upscale(self.on_chain)


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """What the independent audit said."""

    status: int
    """Exit status: 0 reproduced, 1 diverged, 2 incomplete."""
    verdict: str
    report: Mapping[str, Any]
    """The auditor's own document."""

    @property
    def checks(self) -> dict[str, int]:
        """Return how many checks of each kind the auditor made."""
        found = self.report.get("checks")
        return {str(name): number for name, number in found.items() if isinstance(number, int)} if isinstance(found, Mapping) else {}

    @property
    def not_checked(self) -> tuple[Mapping[str, Any], ...]:
        """Return what the auditor says it did not look at."""
        found = self.report.get("not_checked")
        return tuple(one for one in found if isinstance(one, Mapping)) if isinstance(found, list) else ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """How long a part of the demo took."""

    name: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What the demo ran on."""

    environment: Environment
    cores: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Paths:
    """Where things are."""

    home: Path
    logs: Path
    page: Path | None = None
    plot: Path | None = None
    document: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One thing that a demo must show."""

    name: str
    holds: bool
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Everything that is known at the end of a demo."""

    seed: int
    short: bool
    machine: Machine
    rounds: int
    kings: tuple[KingFact, ...]
    submissions: tuple[SubmissionFact, ...]
    cast: tuple[CastFact, ...]
    experiments: tuple[Tried, ...]
    honest: tuple[str, ...]
    weights: Weights
    audit: Audit | None
    stages: tuple[Stage, ...]
    paths: Paths
    stopped_because: str | None = None
    """Why the demo ended before everything was shown."""

    @property
    def crowns_wanted(self) -> int:
        """Return how many changes of king the demo must show."""
        return crowns_wanted(short=self.short)

    @property
    def claims(self) -> tuple[Claim, ...]:
        """Return what the demo must show, each with what was seen."""
        return (
            self._crowns(),
            *(_cheat(fact) for fact in self.cast if fact.role.expected is not None),
            *(_honest_twin(fact) for fact in self.cast if fact.role.expected is None),
            self._discards(),
            Claim(name="weights on chain are what the records give", holds=self.weights.equal, detail=_weights_detail(self.weights)),
            _audited(self.audit),
        )

    @property
    def holds(self) -> bool:
        """Return whether the demo showed everything that it must."""
        return not self.missing

    @property
    def missing(self) -> tuple[str, ...]:
        """Return what was not shown, in words."""
        return (
            *((self.stopped_because,) if self.stopped_because else ()),
            *(f"{claim.name}: {claim.detail}" for claim in self.claims if not claim.holds),
        )

    @property
    def tries(self) -> tuple[Tried, ...]:
        """Return the experiments that tried an idea."""
        return tuple(one for one in self.experiments if one.counts)

    def to_json(self) -> str:
        """Return the outcome document in ASCII, safe on any terminal."""
        return json.dumps(self.document(), ensure_ascii=True, indent=2, allow_nan=False)

    def document(self) -> dict[str, Any]:
        """Return the outcome document; what was not measured is absent."""
        plain: dict[str, Any] = {
            "format": FORMAT,
            "ralph": __version__,
            "holds": self.holds,
            "missing": list(self.missing),
            "claims": _plain(self.claims),
            **{one.name: _plain(getattr(self, one.name)) for one in fields(self) if one.name != "stages"},
            "seconds": {one.name: round(one.seconds, 1) for one in self.stages},
        }
        return {name: value for name, value in plain.items() if value is not None}

    def _crowns(self) -> Claim:
        crowned, wanted = self.kings[1:], self.crowns_wanted
        cheats = {fact.role.name for fact in self.cast if fact.role.expected is not None}
        by_cheats = [king.name for king in crowned if king.name in cheats]
        detail = f"{len(crowned)} of {wanted}: " + (", ".join(f"{king.tag} by {king.name}" for king in crowned) or "none yet")
        name = "the king changes" if wanted == 1 else f"the king changes {wanted} times, never to a cheat"
        return Claim(name=name, holds=len(crowned) >= wanted and not by_cheats, detail=detail)

    def _discards(self) -> Claim:
        tries = self.tries
        discarded = sum(not one.kept for one in tries)
        return Claim(
            name="at least half of the honest miners' ideas are discarded in private",
            holds=bool(tries) and discarded >= HONEST_DISCARD_SHARE * len(tries),
            detail=f"{discarded} of {len(tries)}" if tries else "no experiments",
        )


def crowns_wanted(*, short: bool) -> int:
    """Return how many changes of king a demo must show."""
    return 1 if short else 2


def _cheat(fact: CastFact) -> Claim:
    expected = fact.role.expected
    name = f"{fact.role.name} is refused with {expected.value if expected else ''}"
    return Claim(name=name, holds=fact.as_expected, detail=_seen(fact))


def _honest_twin(fact: CastFact) -> Claim:
    return Claim(name=f"{fact.role.name}, who does the same without the cheat, is not refused", holds=fact.as_expected, detail=_seen(fact))


def _seen(fact: CastFact) -> str:
    if fact.row is None:
        return "no final row in the records"
    return f"round {fact.row.round}: {STATES[fact.row.state]}, {safe(fact.row.reason)}"


def _weights_detail(weights: Weights) -> str:
    if not weights.on_chain:
        return "no weights on chain"
    return ", ".join(f"{name} {value / sum(weights.on_chain.values()):.1%}" for name, value in weights.on_chain.items())


def _audited(audit: Audit | None) -> Claim:
    name = "the independent audit reproduces every decision"
    if audit is None:
        return Claim(name=name, holds=False, detail="was not run")
    made = f", {count(sum(audit.checks.values()), 'check')}" if audit.checks else ""
    return Claim(name=name, holds=audit.status == REPRODUCED, detail=safe(audit.verdict) + made)


def _plain(value: Any) -> Any:
    """Return plain JSON: bytes in hexadecimal, None left out of objects."""
    if isinstance(value, Canonical):
        return _plain(value.model_dump())
    if is_dataclass(value) and not isinstance(value, type):
        return _plain({one.name: getattr(value, one.name) for one in fields(value)})
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items() if item is not None}
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        return [_plain(item) for item in value]
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, bytes):
        return value.hex()
    return str(value) if isinstance(value, Path) else value
