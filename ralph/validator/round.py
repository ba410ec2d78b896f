"""One round, from announcements to signed Measurements. Every step asks the event table first.

1. Slots in the state of A: who announced.     2. Beacon B1.
3. Slots in the state of S: who submitted.     4. Beacon B2.
5. Intake and gates, in B2's queue order.      6. The runs that the decision needs, king beside challengers.
"""

import asyncio
import logging
import traceback
from collections.abc import Sequence
from dataclasses import dataclass

from ralph.errors import RalphError
from ralph.gates.announced import Entrant
from ralph.judge.decide import Sealed
from ralph.judge.plan import Beacons, filter_seeds, seeds
from ralph.protocol.announcement import Slot
from ralph.protocol.lineage import Contest, Throne
from ralph.protocol.measurement import SignedMeasurement
from ralph.protocol.patch import RecipeTree
from ralph.protocol.reasons import Reason
from ralph.protocol.record import BeaconRow, CaseRow, OpeningRow, Refusal
from ralph.protocol.rounds import Window
from ralph.protocol.seeds import draw
from ralph.records.history import Entry
from ralph.validator.facts import Archive
from ralph.validator.guarding import DocumentLosses
from ralph.validator.hidden import HiddenRound
from ralph.validator.intake import Docket, Intake, unopened
from ralph.validator.opening import Openings
from ralph.validator.runs import Runs, tree_of
from ralph.validator.services import Services

logger = logging.getLogger(__name__)

MAX_EVENT_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    """Everything that the decision of a round needs."""

    beacon_one: BeaconRow
    beacon_two: BeaconRow
    cases: tuple[CaseRow, ...]
    measurements: tuple[SignedMeasurement, ...]
    hidden: bytes
    """Digest of the PoolCommitment that the documents were drawn from."""
    sealed: Sealed
    openings: tuple[OpeningRow, ...]


class RoundWork:
    """Gather the inputs of one round's decision.

    Args:
        services: Of this validator.
        entries: Every published Record so far, oldest first.
        throne: The state after them.
        window: The round's blocks.
    """

    def __init__(self, services: Services, entries: Sequence[Entry], throne: Throne, window: Window) -> None:
        self._services, self._entries, self._throne, self._window = services, entries, throne, window
        self._rules = services.profile.rules
        self._archive = Archive(chain=services.chain, events=services.events, rules=self._rules)

    async def gather(self) -> Gathered:
        """Run the round's phases up to its last Measurement."""
        window = self._window
        entrants = await self._archive.announced(window, self._throne)
        beacon_one = await self._archive.beacon("B1", window)
        bundles = await self._archive.submitted(window)
        beacon_two = await self._archive.beacon("B2", window)
        one, two = beacon_one.beacon, beacon_two.beacon
        king = await asyncio.to_thread(tree_of, self._services, self._throne.king.tree)
        cases = await asyncio.to_thread(self._intake, entrants, bundles, king, one, two)
        hidden = await asyncio.to_thread(self._hidden, two)
        measurements = await asyncio.to_thread(self._measure, cases, king, hidden, one, two)
        openings = await asyncio.to_thread(self._open, hidden)
        hidden.check_supply(window.index)
        return Gathered(
            beacon_one=beacon_one,
            beacon_two=beacon_two,
            cases=cases,
            measurements=measurements,
            hidden=hidden.commitment,
            sealed=hidden.sealed(),
            openings=openings,
        )

    def _hidden(self, beacon_two: bytes) -> HiddenRound:
        return HiddenRound(
            self._services.pools,
            self._rules,
            hotkey=self._services.hotkey.key_id,
            entries=self._entries,
            archive=self._archive,
            index=self._window.index,
            beacon_two=beacon_two,
        )

    def _open(self, hidden: HiddenRound) -> tuple[OpeningRow, ...]:
        records = [entry.signed.record for entry in self._entries]
        losses = DocumentLosses(private=self._services.private)
        return Openings(rules=self._rules, store=self._services.store, losses=losses, hidden=hidden, records=records).publish()

    def _intake(
        self, entrants: Sequence[Entrant], bundles: dict[str, bytes], king: RecipeTree, beacon_one: bytes, beacon_two: bytes
    ) -> tuple[CaseRow, ...]:
        window, rules = self._window, self._rules
        docket = Docket(
            round_index=window.index,
            throne=self._throne,
            king=king,
            entrants=tuple(entrants),
            bundles=bundles,
            beacons_one={
                window.index: beacon_one,
                **{one.opened_round: self._archive.past_beacon("B1", one.opened_round) for one in self._throne.contests},
            },
            screen_seeds=seeds(rules, beacon=beacon_one, round_index=window.index, purpose="screen", count=rules.crown.screen_runs),
            filter_seeds=self._filter_seeds,
        )
        intake = Intake(store=self._services.store, rules=rules, scratch=self._services.scratch, docket=docket)
        queue = sorted(entrants, key=lambda one: draw(beacon=beacon_two, purpose="queue", subject=one.case))
        rows = []
        for entrant in (*queue, *_vanished(self._throne, entrants)):
            key = f"{window.index}/{entrant.case.hex()}"
            payload = self._services.events.get("case", key)
            if payload is None:
                payload = self._one_case(intake, entrant).to_bytes()
                self._services.events.append("case", key, payload)
            row = CaseRow.from_bytes(payload, limit=MAX_EVENT_BYTES)
            intake.remember(row)
            rows.append(row)
        return tuple(rows)

    def _one_case(self, intake: Intake, entrant: Entrant) -> CaseRow:
        """Judge one case. The only broad except of the tree: a bug met by one miner's case must not stop the round."""
        try:
            return intake.row(entrant)
        except RalphError:
            raise
        except Exception:  # the traceback is kept and the case is set aside on our account
            logger.exception("case %s hit a bug and is set aside", entrant.case.hex()[:16])
            last = traceback.format_exc().strip().splitlines()[-1][:200]
            return unopened(entrant, self._throne, Refusal(gate="intake", reason=Reason.OPS_INFRA.value, detail=f"set aside: {last}"))

    def _filter_seeds(self, contest: Contest) -> tuple[int, ...]:
        previous = self._archive.past_beacon("B2", self._window.index - 1)
        return filter_seeds(contest, self._rules, previous_two=previous, round_index=self._window.index)

    def _measure(
        self, cases: tuple[CaseRow, ...], king: RecipeTree, hidden: HiddenRound, beacon_one: bytes, beacon_two: bytes
    ) -> tuple[SignedMeasurement, ...]:
        index = self._window.index
        previous = self._archive.past_beacon("B2", index - 1) if index > 0 else None
        runs = Runs(
            self._services,
            records=[entry.signed.record for entry in self._entries],
            throne=self._throne,
            round_index=index,
            cases=cases,
            king=king,
            hidden=hidden,
            beacons=Beacons(one=beacon_one, two=beacon_two, previous_two=previous),
        )
        return runs.measure()


def _vanished(throne: Throne, entrants: Sequence[Entrant]) -> tuple[Entrant, ...]:
    """Return entrants for contests whose slot is gone or was overwritten: absent in filter, irrelevant in proof."""
    present = {entrant.case for entrant in entrants}
    return tuple(
        Entrant(
            hotkey=one.hotkey,
            coldkey=one.coldkey,
            registered_at=0,
            slot=Slot(track=0, parent=throne.king.tree[:8], announcement=one.announcement),
        )
        for one in throne.contests
        if one.case not in present
    )
