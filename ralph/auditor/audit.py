"""One audit from nothing: published files and chain in, a Report out. No key, no torch, no word of the validator believed."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from ralph.auditor.cases import CaseAuditor, ReadOnlyStore, check_crown, check_demotion
from ralph.auditor.decisions import Decided, decide_again
from ralph.auditor.exact import check_exact
from ralph.auditor.facts import ValidatorFacts, Witness, read_round, read_validator
from ralph.auditor.openings import PoolAuditor
from ralph.auditor.payments import check_weights
from ralph.auditor.published import Reader, Reading
from ralph.auditor.report import LIMITS, Check, Findings, Report
from ralph.auditor.rounds import beacon_of, check_beacons, check_commitment, check_entrants, check_seeds, expected_entrants
from ralph.errors import ConfigurationError
from ralph.interfaces import BundleStore
from ralph.protocol.network import NetworkProfile
from ralph.protocol.rounds import window
from ralph.records.history import anchor_of
from ralph.records.log import MerkleLog

STALE_ROUNDS = 2
"""Whole rounds without a Record after which silence is said aloud."""

Progress = Callable[[int, int | None, str], None]


def _silent(done: int, total: int | None, note: str) -> None:
    """Report no progress."""


async def audit(
    *,
    chain: Witness,
    store: BundleStore,
    profile: NetworkProfile,
    hotkey: str | None = None,
    heads: tuple[tuple[int, bytes], ...] = (),
    reproduced: set[bytes] | None = None,
    reveal_delay: int = 0,
    scratch: Path | None = None,
    progress: Progress = _silent,
) -> Report:
    """Audit everything that a validator ever published.

    Args:
        chain: Answers for every block since the first; read only.
        store: Where Records, anchors, bundles and trees are; read only.
        profile: Rules and chain identity, from a source that the auditor trusts.
        hotkey: The validator; None takes the only one that has anchored anything.
        heads: (size, root) of logs that this or another auditor has seen before.
        reproduced: Digests of Records whose rounds this auditor has checked against the same chain before without a finding;
            they are not checked against the chain again. New ones are added.
        reveal_delay: Blocks until weights can be seen on this chain.
        scratch: Directory for temporary files; nothing stays in it.
        progress: Called with rounds done, rounds in all, and what is being done.

    Raises:
        ConfigurationError: The chain is not the profile's, or there is no validator to audit.
        ChainUnavailable: The chain does not answer.
    """
    if await chain.block_hash(0) != profile.chain:
        raise ConfigurationError("the chain is another one than the profile's")
    progress(0, None, "reading the chain")
    facts = await read_validator(chain, hotkey or await find_validator(chain), reveal_delay=reveal_delay)
    found = Findings()
    reading = Reader(store, profile, facts.hotkey, found).read(facts)
    decided = decide_again(reading.records, profile.rules, found)
    check_weights(facts, decided, reading, profile.rules, found)
    with TemporaryDirectory(dir=scratch) as folder:
        pool = PoolAuditor(store, profile.rules, facts, reading, found)
        selection = _Selection(
            chain=chain, store=store, profile=profile, facts=facts, reading=reading, pool=pool, scratch=Path(folder), found=found
        )
        for number, one in enumerate(decided):
            progress(number, len(decided), f"round {one.record.round}")
            pool.begin(one)
            pool.check_refresh(one)
            await _once(selection, one, reproduced if reproduced is not None else set())
    _check_heads(reading, heads, found)
    _check_silence(facts, reading, profile, found)
    return Report(
        validator=facts.hotkey,
        block=facts.head,
        records=len(reading.records),
        root=reading.root,
        findings=found.findings(),
        tallies=found.tallies(),
        unchecked=LIMITS,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Selection:
    """The checks of one round that need the chain."""

    chain: Witness
    store: BundleStore
    profile: NetworkProfile
    facts: ValidatorFacts
    reading: Reading
    pool: PoolAuditor
    scratch: Path
    found: Findings

    async def check(self, one: Decided) -> None:
        """Make all of them."""
        record, rules, found = one.record, self.profile.rules, self.found
        subject, blocks = f"round {record.round}", window(rules.rounds, record.round)
        happened = blocks.beacon_two < self.facts.head
        if not found.expect(Check.LINK, subject, happened, "the record is of a round that has not happened"):
            return
        history = [published.record for published in self.reading.records]
        about = await read_round(self.chain, blocks)
        check_beacons(record, about, self.facts.beacon_public_key, found)
        check_commitment(record, one.published.digest, self.reading, self.facts, found)
        expected = expected_entrants(one.before, about, rules, beacon_of(record, "B2") or b"")
        complete = check_entrants(record, expected, one.before, found)
        check_seeds(one, history[record.round - 1] if record.round else None, rules, found)
        if complete:
            cases = CaseAuditor(store=self.store, rules=rules, scratch=self.scratch, one=one, history=history, found=found)
            cases.check(about, expected)
        else:
            found.unknown(Check.GATES, subject, "the gates were not repeated, because the list of cases is not the chain's")
        check_exact(record, ReadOnlyStore(self.store), rules, found)
        check_crown(one, history, self.store, rules, self.scratch, found)
        check_demotion(one, self.store, found)
        self.pool.check(one)


async def _once(selection: _Selection, one: Decided, reproduced: set[bytes]) -> None:
    """Check a round unless that was done before. A Record's digest pins its inputs and every Record before it."""
    name = one.record.digest()
    if name in reproduced:
        return
    before = len(selection.found.findings())
    await selection.check(one)
    if len(selection.found.findings()) == before:
        reproduced.add(name)


async def find_validator(chain: Witness) -> str:
    """Return the only hotkey whose slot shows an anchor. Raises ConfigurationError when there is none, or more."""
    slots = await chain.commitments((await chain.head()).finalised)
    anchoring = sorted(hotkey for hotkey, payload in slots.items() if anchor_of(payload) is not None)
    if len(anchoring) != 1:
        raise ConfigurationError(f"{len(anchoring)} hotkeys have anchored records; name the one to audit with --validator")
    return anchoring[0]


def _check_heads(reading: Reading, heads: tuple[tuple[int, bytes], ...], found: Findings) -> None:
    """Check that logs seen earlier, perhaps by somebody else, are prefixes of this one: two faces meet here."""
    log = MerkleLog()
    for one in reading.records:
        log.append(one.record.to_bytes())
    for size, root in heads:
        grew = found.expect(
            Check.FACES, f"head {size}", size <= log.size, f"a log of {size} records was seen before, now there are {log.size}"
        )
        if grew:
            same = log.root(size) == root
            found.expect(Check.FACES, f"head {size}", same, "a log of that size with another root was seen before: history was rewritten")


def _check_silence(facts: ValidatorFacts, reading: Reading, profile: NetworkProfile, found: Findings) -> None:
    """Say that Records stopped while the chain went on."""
    due = window(profile.rules.rounds, len(reading.chain) + STALE_ROUNDS).end
    if facts.head >= due:
        found.unknown(
            Check.FILE,
            "log",
            f"no record since round {len(reading.chain) - 1}, though block {facts.head} is {STALE_ROUNDS} rounds past the next",
        )
