"""Record a run, then play it again for a validator in a process of its own that is killed again and again.

The miner's part of a replay is the recorded one: the same slots in the same blocks, the same bundles in the
store. Everything else a validator does must come out the same.
"""

import asyncio
import contextlib
import itertools
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ralph.chain.local import LocalChain
from ralph.chain.wallet import Hotkey
from ralph.protocol.announcement import ZERO, Slot
from ralph.protocol.bundle import MAX_MANIFEST_BYTES, Manifest
from ralph.protocol.submission import submission_name
from ralph.records.events import EventTable
from ralph.store.directory import DirectoryStore
from ralph.validator.times import COST, KIND
from tests.flow.world import World

REPOSITORY = Path(__file__).parents[2]
LIMIT = 1 << 26
SLOW_APPEND = """CREATE TRIGGER slow BEFORE INSERT ON event BEGIN
    SELECT max(x) FROM (WITH RECURSIVE step(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM step WHERE x < 300000) SELECT x FROM step);
END"""
MINER = "honest"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """What the miner of a finished run did."""

    slots: tuple[tuple[int, bytes], ...]
    """(block, payload) in order."""
    store: DirectoryStore
    hotkey: str


def record(world: World) -> Recording:
    """Read the miner's part of a finished run from chain and store."""
    hotkey = world.devnet.hotkeys[MINER]
    with contextlib.closing(sqlite3.connect(world.devnet.chain)) as db:
        rows = db.execute("SELECT block, payload FROM slots WHERE hotkey = ? ORDER BY block", (hotkey,)).fetchall()
    return Recording(slots=tuple((block, bytes(payload)) for block, payload in rows), store=world.store, hotkey=hotkey)


def copy_bundles(recording: Recording, store: DirectoryStore) -> None:
    """Put what the miner had published into another store."""
    for _, payload in recording.slots:
        bundle = Slot.from_bytes(payload).bundle
        if bundle == ZERO:
            continue
        store.put(recording.store.get(bundle, limit=MAX_MANIFEST_BYTES))
        manifest = Manifest.from_bytes(recording.store.get(bundle, limit=MAX_MANIFEST_BYTES), limit=MAX_MANIFEST_BYTES)
        for entry in manifest.files:
            store.put(recording.store.get(entry.sha256, limit=LIMIT))
        name = submission_name(recording.hotkey, bundle)
        store.put_named(name, recording.store.get_named(name, limit=LIMIT))


async def play_slots(world: World, recording: Recording, stop: asyncio.Event) -> None:
    """Write the recorded slots into the same blocks again."""
    wallets = world.devnet.config(MINER).parent / "wallets"
    chain = LocalChain.connect(world.devnet.chain, keypair=Hotkey.load(wallets, MINER, "default"))
    await chain.join(MINER)
    try:
        for block, payload in recording.slots:
            await chain.allow(block - 1)
            await chain.wait_for(block - 1)
            assert await chain.commit(payload) == block
        await chain.allow(10**6)
        await stop.wait()
    finally:
        await chain.leave()
        await chain.close()


async def hold_for_validator(world: World) -> None:
    """Make the chain wait for the validator from the first block on, also while its process is not there."""
    chain = LocalChain.connect(world.devnet.chain)
    await chain.join(f"validator {world.devnet.validator}")
    await chain.close()


class Undertaker:
    """Runs the validator in a process and kills it after chosen events.

    A trigger makes every append as slow as on a bad disk, so that no second event slips in before the kill.
    """

    def __init__(self, world: World, rounds: int) -> None:
        self._config = world.devnet.config("validator")
        self._events = self._config.parent / "events.sqlite"
        self._log = self._config.parent / "validator.log"
        self._rounds = rounds
        EventTable.open(self._events).close()
        self._db = sqlite3.connect(self._events, isolation_level=None, timeout=5, check_same_thread=False)

    def start(self) -> subprocess.Popen[bytes]:
        """Start the validator."""
        command = [sys.executable, "neurons/validator.py", "--config", str(self._config), "--rounds", str(self._rounds)]
        with self._log.open("ab") as log:
            return subprocess.Popen(command, cwd=REPOSITORY, stderr=log, start_new_session=True)

    def count(self) -> int:
        """Return how many events there are."""
        return int(self._db.execute("SELECT count(*) FROM event").fetchone()[0])

    def run(self, at: Sequence[int]) -> int:
        """Run to the end, with a SIGKILL as soon as there are so many events. Return the number of kills."""
        self._db.execute(SLOW_APPEND)
        kills = 0
        while True:
            target = next((number for number in at if number > self.count()), sys.maxsize)
            process = self.start()
            while process.poll() is None:
                if self.count() >= target:
                    process.send_signal(signal.SIGKILL)
                    process.wait()
                    kills += 1
                    break
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(0.002)
            if process.returncode == 0:
                return kills
            if process.returncode != -signal.SIGKILL:
                raise AssertionError(f"the validator ended with {process.returncode}: {self._log.read_text()[-2000:]}")


RUNS_APART = 4
"""Of the many measurements, one in so many ends with a kill."""


def moments(found: Sequence[tuple[str, str, bytes]], *, start: int = 0) -> list[int]:
    """Return after how many events to kill: after each but the first ``start``, but after one in a few of those that are all alike."""
    alike = itertools.count()
    return [
        number
        for number, (kind, _, _) in enumerate(found, start=1)
        if number > start and (kind != "measurement" or next(alike) % RUNS_APART == 0)
    ]


def replay(world: World, recording: Recording, *, rounds: int, at: Sequence[int]) -> int:
    """Run a validator over a recording, killed as soon as there are so many events; return how often it was killed."""
    copy_bundles(recording, world.store)
    undertaker = Undertaker(world, rounds)

    async def run() -> int:
        stop = asyncio.Event()
        await hold_for_validator(world)
        slots = asyncio.ensure_future(play_slots(world, recording, stop))
        try:
            return await asyncio.to_thread(undertaker.run, at)
        finally:
            stop.set()
            await slots

    with world.blocks():
        return asyncio.run(run())


def events(world: World) -> list[tuple[str, str, bytes]]:
    """Return every event but its number, and without what a clock has said."""
    table = EventTable.open(world.devnet.config("validator").parent / "events.sqlite")
    try:
        return [(event.kind, event.key, b"" if event.kind in (KIND, COST) else event.payload) for event in table.all()]
    finally:
        table.close()


def objects(world: World) -> dict[str, bytes]:
    """Return every file of the store but the endorsement, whose hotkey signature is randomised."""
    root = world.devnet.home / "store"
    files = {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}
    return {name: data for name, data in files.items() if "record-key" not in name}


def chain_state(world: World) -> list[tuple[object, ...]]:
    """Return what is on chain up to the end of the recorded rounds, but for times and randomised signatures."""
    with contextlib.closing(sqlite3.connect(world.devnet.chain)) as db:
        slots = db.execute("SELECT hotkey, block, payload, charged FROM slots ORDER BY 1, 2").fetchall()
        weights = db.execute("SELECT * FROM weights ORDER BY 1, 2").fetchall()
        calls = db.execute("SELECT block, hotkey, call, body FROM extrinsics ORDER BY 1, 2, 3, 4").fetchall()
    return [*slots, *weights, *calls]
