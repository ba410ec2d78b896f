"""Watch a devnet from outside: through its chain and its store, as any stranger could, and the miners' own ledgers.

Every Record is verified and every decision recomputed while it is read (``ralph.records.history``). The
ledgers are private to the miners; they are read for the live view and the list of what was tried, and
decide nothing.
"""

import asyncio
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from ralph.agent.experiment import Experiment
from ralph.agent.ledger import SCHEMA_VERSION, Ledger
from ralph.chain.local import LocalChain
from ralph.chain.schema import connect
from ralph.cli.setup import VALIDATOR, Devnet
from ralph.errors import StoreUnavailable, UntrustedInputError
from ralph.interfaces import Head
from ralph.judge.weights import weights
from ralph.protocol.announcement import ZERO, Slot, case_id
from ralph.protocol.lineage import Throne
from ralph.protocol.rounds import Window, round_at, window
from ralph.records.history import Entry, History, anchor_of
from ralph.store.directory import DirectoryStore
from ralph_devnet.outcome import Tried, Weights
from ralph_devnet.words import Names

LEDGER = "research.sqlite"
START_LINE = "demo"
Progress = Literal["announced", "delivered"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """An announcement of the running round that no Record mentions yet."""

    name: str
    progress: Progress
    """``delivered`` once its bundle is in the slot."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """A devnet at one moment."""

    head: Head
    window: Window
    """The round that the head belongs to."""
    waiting: tuple[str, ...]
    """Who does not allow the next block yet."""
    entries: tuple[Entry, ...]
    throne: Throne
    pending: tuple[Pending, ...]
    tried: tuple[Tried, ...]
    weights: Weights

    @property
    def phase(self) -> str:
        """Return what the running round is waiting for, in words."""
        block, blocks = self.head.number, self.window
        phases = (
            (blocks.announce_end, "announce"),
            (blocks.beacon_one, "beacon B1"),
            (blocks.submit_end, "prove"),
            (blocks.beacon_two, "beacon B2"),
            (blocks.measure_end, "measure"),
            (blocks.end, "decide, record, pay"),
        )
        return next((name for end, name in phases if block < end), "starting")


class Watcher:
    """An outside view of a devnet. Make it with ``connect``."""

    def __init__(self, devnet: Devnet, chain: LocalChain, *, researchers: Sequence[str]) -> None:
        self._devnet, self._chain, self._researchers = devnet, chain, tuple(researchers)
        self.names = Names(by_hotkey={hotkey: name for name, hotkey in devnet.hotkeys.items()})
        self._history = History(DirectoryStore(devnet.home / "store"), devnet.profile, devnet.validator)
        self._tried: dict[str, tuple[Tried, ...]] = {}

    @classmethod
    def connect(cls, devnet: Devnet, *, researchers: Sequence[str]) -> Self:
        """Connect to the chain, without a key."""
        return cls(devnet, LocalChain.connect(devnet.chain), researchers=researchers)

    async def close(self) -> None:
        """Close the connection."""
        await self._chain.close()

    async def hold(self) -> None:
        """Draw a start line: no block is made until ``release``."""
        await self._chain.join(START_LINE)

    async def ready(self, hotkeys: Sequence[str]) -> bool:
        """Return whether all these hotkeys take part in the barrier."""
        joined = {name.rpartition(" ")[2] for name in await asyncio.to_thread(participants, self._devnet.chain)}
        return joined.issuperset(hotkeys)

    async def release(self) -> None:
        """Take the start line away."""
        await self._chain.leave()

    async def observe(self) -> Observation:
        """Return how things stand now.

        Raises:
            CorruptStateError: Something published does not verify.
            ChainUnavailable: The chain does not answer.
        """
        head = await self._chain.head()
        slots = await self._chain.commitments(head.number)
        await self._read((await self._chain.commitments(head.finalised)).get(self._devnet.validator))
        waiting = await self._chain.waiting_for()
        throne = self._history.throne
        rules = self._devnet.profile.rules.rounds
        return Observation(
            head=head,
            window=window(rules, max(0, round_at(rules, head.number))),
            waiting=tuple(self._participant(name) for name in waiting),
            entries=self._history.entries,
            throne=throne,
            pending=self._pending(slots, throne),
            tried=await asyncio.to_thread(self._experiments),
            weights=await self._weights(head, throne),
        )

    async def _read(self, slot: bytes | None) -> None:
        anchor = anchor_of(slot)
        if anchor is None:
            return
        try:
            await asyncio.to_thread(self._history.read, anchor)
        except StoreUnavailable:
            return  # published a moment later than it was announced; the next look finds it

    async def _weights(self, head: Head, throne: Throne) -> Weights:
        metagraph = await self._chain.snapshot(head.number)
        owner = await self._chain.owner_hotkey()
        due = weights(throne, self._devnet.profile.rules, owner=owner, registered=frozenset(metagraph.by_hotkey()))
        on_chain = (await self._chain.weights(head.number)).get(self._devnet.validator, {})
        return Weights(
            due={self.names.of(hotkey): weight for hotkey, weight in due.items()},
            on_chain={self.names.of(hotkey): weight for hotkey, weight in on_chain.items()},
        )

    def _pending(self, slots: dict[str, bytes], throne: Throne) -> tuple[Pending, ...]:
        found = []
        for name, hotkey in self._devnet.hotkeys.items():
            payload = slots.get(hotkey)
            if name == VALIDATOR or payload is None:
                continue
            try:
                slot = Slot.from_bytes(payload)
            except UntrustedInputError:
                continue
            if case_id(slot.announcement, hotkey) not in throne.seen_cases:
                found.append(Pending(name=name, progress="announced" if slot.bundle == ZERO else "delivered"))
        return tuple(found)

    def _participant(self, name: str) -> str:
        hotkey = name.rpartition(" ")[2]
        return self.names.by_hotkey.get(hotkey, name)

    def _experiments(self) -> tuple[Tried, ...]:
        for name in self._researchers:
            found = read_ledger(self._devnet.home / name / LEDGER)
            if found is not None:
                self._tried[name] = tuple(Tried.of(name, experiment) for experiment in found)
        return tuple(one for name in self._researchers for one in self._tried.get(name, ()))


def participants(chain: Path) -> tuple[str, ...]:
    """Return the names of all participants of a chain's barrier."""
    db = connect(chain)
    try:
        return tuple(name for (name,) in db.execute("SELECT name FROM participants ORDER BY name"))
    finally:
        db.close()


def read_ledger(path: Path) -> tuple[Experiment, ...] | None:
    """Return the experiments of a miner's ledger without touching it; None while it is not there or is being made."""
    try:
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)
    except sqlite3.OperationalError:
        return None
    try:
        if connection.execute("PRAGMA user_version").fetchone()[0] != SCHEMA_VERSION:
            return None
        connection.execute("BEGIN")  # one instant, whatever is being written
        return Ledger(connection).experiments()
    except sqlite3.OperationalError:
        return None
    finally:
        connection.close()
