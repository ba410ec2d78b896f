"""L1: run the production intake again on what the store holds, and compare with what the Record says of each case.

What cannot be fetched today, or is damaged in the store, is unknown and never an accusation. A refusal that
only says that something was missing or broke on the validator's side cannot be repeated either.
"""

from collections.abc import Sequence
from pathlib import Path

from ralph.auditor.decisions import HOSTILE, Decided, case_name
from ralph.auditor.facts import RoundFacts
from ralph.auditor.report import Check, Findings
from ralph.auditor.rounds import beacon_of
from ralph.errors import InfrastructureError, StoreUnavailable, UntrustedInputError
from ralph.gates.announced import Entrant, entrants
from ralph.gates.intake import Docket, Intake
from ralph.interfaces import BundleStore
from ralph.judge.plan import filter_seeds, seeds
from ralph.protocol.canonical import blob_digest
from ralph.protocol.lineage import Contest
from ralph.protocol.patch import RecipeTree
from ralph.protocol.record import CaseRow, Record
from ralph.protocol.rules import Rules
from ralph.repository.apply import apply_patch
from ralph.repository.stored import load_tree

WITHHELD = "INT-WITHHELD"
OURS = "OPS-INFRA"


class ReadOnlyStore:
    """A store that is never written, and whose damaged objects count as absent: nobody is accused of them."""

    def __init__(self, store: BundleStore) -> None:
        self._store = store

    def get(self, digest: bytes, *, limit: int) -> bytes:
        """Return the object after hashing it here."""
        try:
            data = self._store.get(digest, limit=limit)
        except UntrustedInputError as error:
            if error.code != "INT-HASH":
                raise
            raise StoreUnavailable(error.detail) from error
        if blob_digest(data) != digest:
            raise StoreUnavailable(f"object {digest.hex()[:16]} is damaged in the store")
        return data

    def has(self, digest: bytes) -> bool:
        """Return whether the store says that it has the object."""
        return self._store.has(digest)

    def get_named(self, name: str, *, limit: int) -> bytes:
        """Return what a name points at."""
        return self._store.get_named(name, limit=limit)

    def put(self, data: bytes) -> bytes:
        """Write nothing; return the digest that the bytes have."""
        return blob_digest(data)

    def put_named(self, name: str, data: bytes) -> None:
        """Write nothing."""


class CaseAuditor:
    """Repeats the intake of one round."""

    def __init__(
        self, *, store: BundleStore, rules: Rules, scratch: Path, one: Decided, history: Sequence[Record], found: Findings
    ) -> None:
        self._store, self._rules, self._scratch = ReadOnlyStore(store), rules, scratch
        self._record, self._throne, self._history, self._found = one.record, one.before, history, found

    def check(self, facts: RoundFacts, expected: Sequence[Entrant]) -> None:
        """Check every case of the round, in the order of the queue."""
        by_case = {one.case: one for one in expected}
        try:
            intake = Intake(store=self._store, rules=self._rules, scratch=self._scratch, docket=self._docket(facts))
        except (StoreUnavailable, UntrustedInputError) as error:
            self._found.unknown(Check.GATES, f"round {self._record.round}", f"the king's tree could not be read: {error.detail}")
            return
        for row in self._record.cases:
            self._check_case(row, by_case[row.case], intake)
            intake.remember(row)

    def _docket(self, facts: RoundFacts) -> Docket:
        record, rules, throne = self._record, self._rules, self._throne
        beacon_one = beacon_of(record, "B1") or b""
        opened = {one.opened_round: beacon_of(self._history[one.opened_round], "B1") or b"" for one in throne.contests}
        return Docket(
            round_index=record.round,
            throne=throne,
            king=load_tree(self._store, throne.king.tree, max_file_bytes=rules.patch.max_file_bytes),
            entrants=entrants(facts.announced, facts.metagraph, throne, rules),
            bundles=facts.submitted,
            beacons_one={**opened, record.round: beacon_one},
            screen_seeds=seeds(rules, beacon=beacon_one, round_index=record.round, purpose="screen", count=rules.crown.screen_runs),
            filter_seeds=self._filter_seeds,
        )

    def _filter_seeds(self, contest: Contest) -> tuple[int, ...]:
        previous = beacon_of(self._history[self._record.round - 1], "B2") or b""
        return filter_seeds(contest, self._rules, previous_two=previous, round_index=self._record.round)

    def _check_case(self, row: CaseRow, entrant: Entrant, intake: Intake) -> None:
        subject = case_name(row)
        stated = _verdict(row)
        try:
            given = intake.row(entrant)
        except InfrastructureError as error:
            if stated != WITHHELD:
                self._found.unknown(Check.GATES, subject, f"the gates could not be repeated: {error.detail}")
            return
        except HOSTILE as error:
            self._found.unknown(Check.GATES, subject, f"the gates broke: {type(error).__name__}: {error}")
            return
        if stated == _verdict(given) == WITHHELD:
            return
        if stated in (WITHHELD, OURS) and row.refusal is not None:
            detail = f"was refused with {stated} ({row.refusal.detail}); the same files lead to {_said(given)} today"
            self._found.unknown(Check.GATES, subject, detail)
            return
        if _verdict(given) == WITHHELD and given.refusal is not None:
            self._found.unknown(Check.GATES, subject, f"the gates could not be repeated: {given.refusal.detail}")
            return
        same = stated == _verdict(given)
        if self._found.expect(Check.GATES, subject, same, f"the record says {_said(row)}; the gates say {_said(given)}"):
            rest = row.model_copy(update={"refusal": given.refusal})
            self._found.expect(Check.GATES, subject, rest == given, "the row shows other contents than the bundle")


def check_crown(one: Decided, history: Sequence[Record], store: BundleStore, rules: Rules, scratch: Path, found: Findings) -> None:
    """Apply the crowned patch to the king before and compare the tree."""
    crown = one.record.crown
    if crown is None:
        return
    subject, safe = f"round {one.record.round}", ReadOnlyStore(store)
    rows = [row for record in history[: one.record.round + 1] for row in record.cases if row.announcement == crown.announcement]
    opening = next((row for row in rows if row.hotkey == crown.hotkey and row.patch is not None), None)
    if not found.expect(Check.CROWN, subject, opening is not None, "no case shows the patch of the crowned tree") or opening is None:
        return
    try:
        parent = load_tree(safe, crown.parent, max_file_bytes=rules.patch.max_file_bytes)
        patch = safe.get(opening.patch or b"", limit=rules.patch.max_patch_bytes)
        tree = apply_patch(scratch, parent, patch, rules.patch)
    except InfrastructureError as error:
        found.unknown(Check.CROWN, subject, f"the crowned patch could not be applied: {error.detail}")
        return
    except UntrustedInputError as error:
        found.expect(Check.CROWN, subject, False, f"the crowned patch does not apply to the king before: {error.detail}")
        return
    found.expect(Check.CROWN, subject, tree.digest() == crown.tree, "the crowned patch gives another tree")
    same = tree.normalised_digest() == opening.normalised
    found.expect(Check.CROWN, subject, same, "the crowned tree has another normalised digest than its case")
    _check_published(tree, safe, subject, found)


def check_demotion(one: Decided, store: BundleStore, found: Findings) -> None:
    """Check that the restored tree is there for everybody who wants to improve it."""
    if one.record.demotion is not None and not ReadOnlyStore(store).has(one.after.king.tree):
        found.unknown(Check.DEMOTION, f"round {one.record.round}", "the restored tree is not in the store")


def _check_published(tree: RecipeTree, store: ReadOnlyStore, subject: str, found: Findings) -> None:
    """A king must be readable by everybody who wants to improve him."""
    if not store.has(tree.digest()):
        found.unknown(Check.CROWN, subject, "the crowned tree is not in the store")


def _verdict(row: CaseRow) -> str:
    return "" if row.refusal is None else row.refusal.reason


def _said(row: CaseRow) -> str:
    return "accepted" if row.refusal is None else f"refused at {row.refusal.gate} with {row.refusal.reason} ({row.refusal.detail})"
