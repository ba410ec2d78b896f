"""The miner's loop: research until there is a candidate, announce it, prove it, and follow it through its contest.

Where a king's experiments are spent and neither this miner nor another has anything to judge, research goes on with as many again.

What is under way survives a restart: entries with their salts, finished runs, and on chain the slot.
"""

import asyncio
import logging
from dataclasses import dataclass

from ralph.chain.waiting import reach, read_beacon
from ralph.errors import InfrastructureError, StoreUnavailable
from ralph.judge.plan import filter_seeds, seeds
from ralph.miner.announce import MAX_ENTRY_BYTES, Entry, prepare
from ralph.miner.prove import Prover, prove
from ralph.miner.services import MinerServices, PatchSource, Proposal
from ralph.miner.submit import bundle_files, publish, set_slot
from ralph.protocol.lineage import Contest, Throne
from ralph.protocol.patch import RecipeTree
from ralph.protocol.record import State
from ralph.protocol.rounds import Window, round_at, window
from ralph.records.history import History, anchor_of
from ralph.repository.stored import load_tree

logger = logging.getLogger(__name__)

RETRY_S = 1.0
DECIDED: frozenset[State] = frozenset({"rejected", "dropped", "crowned"})
"""Ends of a case after which its tree is not announced again on the same king."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How a miner behaves between submissions."""

    holds_rounds: bool = True
    """On a barrier-driven chain: keep the announce window open while research goes on and no contest is waiting."""
    leaves_when_finished: bool = False
    """End the loop once the source is finished and nothing is under way."""


class Miner:
    """A long-lived miner."""

    def __init__(self, services: MinerServices, source: PatchSource, *, policy: Policy | None = None, prover: Prover = prove) -> None:
        self._services, self._source, self._prover = services, source, prover
        self._policy = policy or Policy()
        self._history = History(services.store, services.profile, services.validator)
        self._king: bytes | None = None
        self._passed = 0
        """Newest round whose announce window we let go; to announce in it would race with its deadlines."""
        self._rested = False
        """Whether a round has passed since research on this king was finished: others may have announced in it."""
        self._waiting: Proposal | None = None
        """A candidate that is not on chain yet; one for another king is forgotten."""
        self._rules = services.profile.rules

    @property
    def history(self) -> History:
        """Return the published history as far as it was read."""
        return self._history

    async def run(self, stop: asyncio.Event) -> None:
        """Run until ``stop`` is set or the policy says to leave."""
        while not stop.is_set():
            try:
                if not await self._turn():
                    return
            except InfrastructureError as error:
                logger.warning("waiting %.0f s: %s", RETRY_S, error)
                await asyncio.sleep(RETRY_S)

    async def _turn(self) -> bool:
        """Do the next thing; return False to leave."""
        throne = await self._throne()
        index = max(throne.round_index + 1, 1)
        blocks = window(self._rules.rounds, index)
        contest = self._contest(throne)
        if contest is not None:
            return await self._compete(contest, throne, blocks)
        await self._follow_king(throne, blocks)
        head = await self._services.chain.head()
        if head.number >= blocks.announce_end:
            entry = await self._announced(blocks)
            if entry is not None:
                await self._prove_screen(entry, blocks)
                await self._conclude(blocks)
                return True
            await self._pass(blocks)
        if self._passed < index and await self._announce(throne, blocks):
            return True
        if self._source.finished and not (self._rested and not throne.contests and self._source.more()):
            await self._pass(blocks)
            await reach(self._services.chain, blocks.end)
            self._rested = True
            return not (self._policy.leaves_when_finished and not throne.contests)
        self._rested = False
        await self._research(throne, blocks)
        return True

    async def _announce(self, throne: Throne, blocks: Window) -> bool:
        """Announce a candidate if there is one, prove it, and wait for the Record; return whether there was one."""
        self._waiting = self._waiting or self._source.candidate()
        if self._waiting is None or self._judged(self._waiting.tree.digest(), throne.king.tree):
            self._waiting = None
            return False
        entry = prepare(self._services, self._waiting, await self._king_tree(throne), round_index=blocks.index)
        if await set_slot(self._services, entry, bundle=None, deadline=blocks.announce_end):
            self._waiting = None
            await self._prove_screen(entry, blocks)
            await self._conclude(blocks)
        return True

    def _judged(self, tree: bytes, king: bytes) -> bool:
        """Return whether a Record decided on this tree of ours on this king: it would be refused as a copy of itself."""
        own = self._services.hotkey.key_id
        for record in (entry.signed.record for entry in self._history.entries if entry.signed.record.king == king):
            cases = {case.case for case in record.cases if case.hotkey == own and case.tree == tree}
            if any(outcome.case in cases and outcome.state in DECIDED for outcome in record.outcomes):
                return True
        return False

    async def _throne(self) -> Throne:
        """Return the newest published state; before the first Record, the genesis."""
        chain = self._services.chain
        head = await chain.head()
        anchor = anchor_of((await chain.commitments(head.finalised)).get(self._services.validator))
        if anchor is not None:
            await asyncio.to_thread(self._history.read, anchor)
        return self._history.throne

    def _contest(self, throne: Throne) -> Contest | None:
        return next((one for one in throne.contests if one.hotkey == self._services.hotkey.key_id), None)

    async def _king_tree(self, throne: Throne) -> RecipeTree:
        if throne.king.tree == self._services.genesis.digest():
            return self._services.genesis
        limit = self._rules.patch.max_file_bytes
        return await asyncio.to_thread(load_tree, self._services.store, throne.king.tree, max_file_bytes=limit)

    async def _follow_king(self, throne: Throne, blocks: Window) -> None:
        if self._king == throne.king.tree:
            return
        await self._services.chain.allow(blocks.announce_end - 1)
        tree = await self._king_tree(throne)
        logger.info("king is %s (%s)", throne.king.tag, throne.king.tree.hex()[:16])
        self._waiting = None
        await asyncio.to_thread(self._source.start, tree)
        self._king = throne.king.tree

    async def _research(self, throne: Throne, blocks: Window) -> None:
        """Do one experiment while the chain may go on as far as the policy lets it."""
        if self._policy.holds_rounds and not throne.contests:
            await self._services.chain.allow(blocks.announce_end - 1)
        else:
            await self._pass(blocks)
        await asyncio.to_thread(self._source.step)

    async def _pass(self, blocks: Window) -> None:
        """Let the chain go on to the next announce window. What is found meanwhile is announced there and not before."""
        self._passed = max(self._passed, blocks.index)
        await self._services.chain.allow(blocks.end + self._rules.rounds.announce_end - 1)

    async def _announced(self, blocks: Window) -> Entry | None:
        """Return our entry of this round, found again after a restart."""
        for event in reversed(self._services.events.all("entry")):
            entry = Entry.from_bytes(event.payload, limit=MAX_ENTRY_BYTES)
            if entry.round == blocks.index:
                return entry
        return None

    async def _prove_screen(self, entry: Entry, blocks: Window) -> None:
        beacon = await read_beacon(self._services.chain, "B1", blocks.beacon_one)
        drawn = seeds(self._rules, beacon=beacon.beacon, round_index=blocks.index, purpose="screen", count=self._rules.crown.screen_runs)
        await self._deliver(entry, drawn, beacon.beacon, blocks)

    async def _compete(self, contest: Contest, throne: Throne, blocks: Window) -> bool:
        """Deliver what the next look at our contest needs: filter runs of ours, or nothing while validators prove."""
        if contest.stage == "filter":
            payload = self._services.events.get("entry", contest.announcement.hex())
            if payload is None:
                raise StoreUnavailable(f"entry {contest.announcement.hex()[:16]} is not in our state; another process owns this hotkey")
            entry = Entry.from_bytes(payload, limit=MAX_ENTRY_BYTES)
            previous = next(row.beacon for row in self._history.entries[-1].signed.record.beacons if row.name == "B2")
            drawn = filter_seeds(contest, self._rules, previous_two=previous, round_index=blocks.index)
            opened = window(self._rules.rounds, contest.opened_round)
            beacon_one = await read_beacon(self._services.chain, "B1", opened.beacon_one)
            await self._deliver(entry, drawn, beacon_one.beacon, blocks)
        await self._conclude(blocks)
        return True

    async def _deliver(self, entry: Entry, drawn: tuple[int, ...], beacon_one: bytes, blocks: Window) -> None:
        runs = await asyncio.to_thread(self._prover, self._services, entry, drawn)
        files = bundle_files(self._services, entry, runs)
        bundle = await asyncio.to_thread(publish, self._services, entry, files, beacon_one=beacon_one)
        if not await set_slot(self._services, entry, bundle=bundle, deadline=blocks.submit_end):
            logger.warning("too late for block %d: the proof of this round does not count", blocks.submit_end)

    async def _conclude(self, blocks: Window) -> None:
        """Wait for the round's Record and say what it says about us."""
        await reach(self._services.chain, blocks.end)
        while (await self._throne()).round_index < blocks.index and round_at(
            self._rules.rounds, (await self._services.chain.head()).number
        ) <= blocks.index + 1:
            await asyncio.sleep(RETRY_S / 10)
        own = {
            case.case
            for entry in self._history.entries
            for case in entry.signed.record.cases
            if case.hotkey == self._services.hotkey.key_id
        }
        for entry in self._history.entries[-1:]:
            for outcome in entry.signed.record.outcomes:
                if outcome.case in own:
                    logger.info("round %d: %s %s: %s", entry.signed.record.round, outcome.state, outcome.reason, outcome.detail)
