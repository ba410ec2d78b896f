"""Intake: what the chain shows and the store holds becomes Cases, and the gates judge them.

The same code for the validator who decides and for the auditor who repeats it. A submission that cannot be
fetched, parsed or accepted ends here with its reason. Nothing of one case can stop another.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from ralph.errors import StoreUnavailable, UntrustedInputError
from ralph.gates.announced import Entrant, announced
from ralph.gates.integrity import integrity
from ralph.gates.novelty import novelty
from ralph.gates.plausible import plausible
from ralph.gates.scope import scope
from ralph.interfaces import BundleStore
from ralph.protocol.announcement import ZERO, Announcement, Environment, Hypothesis, Slot
from ralph.protocol.bundle import MAX_MANIFEST_BYTES, Manifest, RunClaim, run_prefix
from ralph.protocol.lineage import Contest, Throne
from ralph.protocol.patch import RecipeTree
from ralph.protocol.record import CaseRow, CaseStage, Refusal
from ralph.protocol.rules import Rules
from ralph.protocol.submission import MAX_SUBMISSION_BYTES, Case, ChainFacts, ClaimedRun, Submission, submission_name
from ralph.protocol.verdict import Finding
from ralph.repository.stored import store_tree
from ralph.repository.trees import materialise
from ralph.train.plan import plan

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Docket:
    """What a round's intake works from: chain facts pinned at finalised blocks, and the state before it."""

    round_index: int
    throne: Throne
    king: RecipeTree
    entrants: tuple[Entrant, ...]
    bundles: Mapping[str, bytes]
    """hotkey -> slot payload in the state of block S."""
    beacons_one: Mapping[int, bytes]
    """Round -> its B1: a contest keeps the nonce of the round that opened it."""
    screen_seeds: tuple[int, ...]
    filter_seeds: Callable[[Contest], tuple[int, ...]]


class Intake:
    """Open and judge the cases of one round, in the order given."""

    def __init__(self, *, store: BundleStore, rules: Rules, scratch: Path, docket: Docket) -> None:
        self._store, self._rules, self._scratch, self._docket = store, rules, scratch, docket
        self._earlier: dict[bytes, str] = {}
        self._contests = {contest.case: contest for contest in docket.throne.contests}

    def row(self, entrant: Entrant) -> CaseRow:
        """Return the case's row: accepted for measuring, or refused with its reason."""
        contest = self._contests.get(entrant.case)
        stage: CaseStage = "screen" if contest is None else contest.stage
        bare = _bare(entrant, stage, contest)
        if stage == "proof":
            return bare
        try:
            return self._judge(entrant, bare, contest)
        except UntrustedInputError as error:
            return _refused(bare, Finding(gate="intake", reason=None, detail=error.detail), error.code)

    def remember(self, row: CaseRow) -> None:
        """Note an opened tree, so that later cases of the round are compared with it."""
        if row.normalised is not None and row.stage == "screen":
            self._earlier.setdefault(row.normalised, row.hotkey)

    def _judge(self, entrant: Entrant, bare: CaseRow, contest: Contest | None) -> CaseRow:
        docket, rules = self._docket, self._rules
        if contest is None:
            finding = announced(entrant, docket.entrants, docket.throne, rules, beacon_one=docket.beacons_one[docket.round_index])
            if not finding.passed:
                return _refused(bare, finding)
        case = self._open(entrant, contest)
        row = _opened(bare, case)
        finding = integrity(case)
        if not finding.passed:
            return _refused(row, finding)
        finding, tree = scope(case, rules.patch, scratch=self._scratch)
        if tree is None:
            return _refused(row, finding)
        row = row.model_copy(update={"tree": tree.digest(), "normalised": tree.normalised_digest()})
        if contest is None:
            finding = self._novel(row, entrant)
            if not finding.passed:
                return _refused(row, finding)
        elif contest.tree != row.tree:
            return _refused(row, finding, "INT-HASH")
        with TemporaryDirectory(dir=self._scratch) as folder:
            recipe = Path(folder) / "recipe"
            materialise(tree, recipe)
            rung = rules.rung(rules.crown.rung)
            finding = plausible(case, plan(recipe, rung), rung)
        if not finding.passed:
            return _refused(row, finding)
        store_tree(self._store, tree)
        return row

    def _novel(self, row: CaseRow, entrant: Entrant) -> Finding:
        if row.normalised is None:
            raise ValueError("novelty needs the tree")
        return novelty(
            normalised=row.normalised,
            hotkey=entrant.hotkey,
            king_normalised=self._docket.king.normalised_digest(),
            throne=self._docket.throne,
            earlier_in_queue=self._earlier,
        )

    def _open(self, entrant: Entrant, contest: Contest | None) -> Case:
        """Fetch and parse a bundle within the limits. Raises UntrustedInputError."""
        bundle = _bundle_digest(entrant, self._docket.bundles)
        manifest = Manifest.from_bytes(self._fetch(bundle, MAX_MANIFEST_BYTES, "manifest"), limit=MAX_MANIFEST_BYTES)
        keys = manifest.run_keys(self._rules.bundle)
        files = {entry.name: self._fetch(entry.sha256, entry.size, entry.name) for entry in manifest.files}
        for entry in manifest.files:
            if len(files[entry.name]) != entry.size:
                raise UntrustedInputError("INT-SIZE", f"{entry.name} has {len(files[entry.name])} bytes, the manifest says {entry.size}")
        limit = self._rules.bundle.max_document_bytes
        facts = ChainFacts(
            round_index=self._docket.round_index,
            hotkey=entrant.hotkey,
            coldkey=entrant.coldkey,
            registered_at=entrant.registered_at,
            slot_announcement=entrant.slot.announcement,
            slot_parent=entrant.slot.parent,
            slot_bundle=bundle,
            beacon_one=self._docket.beacons_one[self._docket.round_index if contest is None else contest.opened_round],
            seeds=self._docket.screen_seeds if contest is None else self._docket.filter_seeds(contest),
            rung=self._rules.crown.rung,
        )
        return Case(
            facts=facts,
            submission=self._submission(entrant.hotkey, bundle),
            manifest=manifest,
            announcement=Announcement.from_bytes(files["announcement.cbor"], limit=limit),
            hypothesis=Hypothesis.from_bytes(files["hypothesis.cbor"], limit=limit),
            environment=Environment.from_bytes(files["environment.cbor"], limit=limit),
            patch=files["patch.diff"],
            runs={key: _claimed_run(files, key, limit) for key in keys},
            king=self._docket.king,
        )

    def _submission(self, hotkey: str, bundle: bytes) -> Submission:
        name = submission_name(hotkey, bundle)
        try:
            data = self._store.get_named(name, limit=MAX_SUBMISSION_BYTES)
        except StoreUnavailable as error:  # the store answered for the manifest a moment ago, so this is the miner's omission
            raise UntrustedInputError("INT-WITHHELD", f"{name} is not in the store") from error
        return Submission.from_bytes(data, limit=MAX_SUBMISSION_BYTES)

    def _fetch(self, digest: bytes, limit: int, name: str) -> bytes:
        if limit > self._rules.bundle.max_total_bytes:
            raise UntrustedInputError("INT-SIZE", f"{name} has {limit} bytes, limit {self._rules.bundle.max_total_bytes}")
        if not self._store.has(digest):
            raise UntrustedInputError("INT-WITHHELD", f"{name} ({digest.hex()[:16]}) is not in the store")
        return self._store.get(digest, limit=limit)


def _bundle_digest(entrant: Entrant, bundles: Mapping[str, bytes]) -> bytes:
    payload = bundles.get(entrant.hotkey, b"")
    slot = Slot.from_bytes(payload) if payload else None
    if slot is None or slot.announcement != entrant.slot.announcement or slot.bundle == ZERO:
        raise UntrustedInputError("INT-ABSENT", "no bundle for this announcement in the slot at block S")
    return slot.bundle


def _claimed_run(files: Mapping[str, bytes], key: tuple[str, int], limit: int) -> ClaimedRun:
    prefix = run_prefix(*key)
    claim = RunClaim.from_bytes(files[prefix + "run.cbor"], limit=limit)
    return ClaimedRun(claim=claim, transcript=files[prefix + "transcript"], weights=files[prefix + "weights.safetensors"])


def unopened(entrant: Entrant, throne: Throne, refusal: Refusal) -> CaseRow:
    """Return the row of a case that was refused before it was opened."""
    contest = next((one for one in throne.contests if one.case == entrant.case), None)
    return _bare(entrant, "screen" if contest is None else contest.stage, contest).model_copy(update={"refusal": refusal})


def _bare(entrant: Entrant, stage: CaseStage, contest: Contest | None) -> CaseRow:
    return CaseRow(
        hotkey=entrant.hotkey,
        coldkey=entrant.coldkey,
        announcement=entrant.slot.announcement,
        parent=entrant.slot.parent,
        bundle=None,
        tree=contest.tree if contest else None,
        normalised=contest.normalised if contest else None,
        patch=None,
        hypothesis=None,
        environment=None,
        claims=(),
        stage=stage,
        refusal=None,
    )


def _opened(bare: CaseRow, case: Case) -> CaseRow:
    update = {
        "bundle": case.facts.slot_bundle,
        "patch": case.manifest.entry("patch.diff").sha256,
        "hypothesis": case.hypothesis,
        "environment": case.environment.digest(),
        "claims": tuple(case.runs[key].claim for key in sorted(case.runs)),
    }
    return bare.model_copy(update=update)


def _refused(row: CaseRow, finding: Finding, code: str | None = None) -> CaseRow:
    reason = code or str(finding.reason)
    logger.info("case %s refused at %s: %s %s", row.announcement.hex()[:16], finding.gate, reason, finding.detail)
    return row.model_copy(update={"refusal": Refusal(gate=finding.gate, reason=reason, detail=finding.detail[:2000])})
