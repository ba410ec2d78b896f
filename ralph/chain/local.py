"""A development chain in one SQLite file, seen through one hotkey: ``interfaces.Chain`` for one machine.

Any number of processes connect; one ``BlockProducer`` makes the blocks. What a connection sends is
checked at once against everything that is to be in the next block, signed, verified, and lands there
(``head + 1``); it can be read when that block exists. SQLite runs in a thread of its own, so that a busy
file never holds up an event loop, and every call has a deadline.

What this does **not** promise: registration and stake cost nothing, and after ``ChainUnavailable`` an
extrinsic may have landed nevertheless: read back.
"""

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self, TypeVar

from ralph.chain import ledger, state
from ralph.chain.faults import Faults
from ralph.chain.ledger import Extrinsic
from ralph.chain.producer import BlockProducer, create, read_head
from ralph.chain.schema import ChainParameters, connect, head_number, read_meta, read_parameters, reported, transaction
from ralph.errors import ChainUnavailable, ConfigurationError
from ralph.interfaces import DrandRound, Head, Metagraph, Signer
from ralph.protocol.keys import hotkey_public_key

__all__ = ["BlockProducer", "ChainParameters", "Faults", "LocalChain", "create"]

DEADLINE_S = 10.0
POLL_S = 0.01
Answer = TypeVar("Answer")


class LocalChain:
    """One connection to a development chain. Make it with ``connect``."""

    def __init__(
        self, db: sqlite3.Connection, *, parameters: ChainParameters, keypair: Signer | None, deadline_s: float, name: str
    ) -> None:
        self._db = db
        self._keypair = keypair
        self._deadline_s = deadline_s
        self._name = name
        self._participant: str | None = None
        self._closed = False
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="chain")
        self.parameters = parameters
        self.faults = Faults()

    @classmethod
    def connect(cls, path: Path, *, keypair: Signer | None = None, deadline_s: float = DEADLINE_S) -> Self:
        """Connect to the chain in ``path``, as a hotkey when a keypair is given.

        Raises:
            ChainUnavailable: there is no such file (yet).
            ConfigurationError: it was made by another version.
        """
        db = connect(path, busy_timeout_s=deadline_s)
        with reported(f"chain {path}"):
            parameters = read_parameters(db)
        return cls(db, parameters=parameters, keypair=keypair, deadline_s=deadline_s, name=f"chain {path}")

    @property
    def netuid(self) -> int:
        """Return the subnet's number."""
        return self.parameters.netuid

    @property
    def hotkey(self) -> str:
        """Return the address of our hotkey."""
        return self._signer().key_id

    async def head(self) -> Head:
        """Return the newest block."""
        return await self._read(lambda: read_head(self._db, self.parameters))

    async def block_hash(self, block: int) -> bytes:
        """Return the hash of a block that exists."""
        query = "SELECT hash FROM blocks WHERE number = ?"
        return await self._read_at(block, lambda: bytes(self._db.execute(query, (block,)).fetchone()[0]))

    async def drand_after(self, block: int) -> DrandRound | None:
        """Return the first beacon round later than ``block``: round ``block + 1``, published with that block."""
        return await self._read_at(block, lambda: self._round(block + 1))

    async def beacon_round(self, number: int) -> DrandRound | None:
        """Return one beacon round, or None while it is not published."""
        return await self._read(lambda: self._round(number))

    async def beacon_public_key(self) -> bytes:
        """Return the key under which beacon rounds verify (``ralph.chain.author.verify_round``)."""
        return await self._read(lambda: read_meta(self._db, "beacon_public_key"))

    async def snapshot(self, block: int) -> Metagraph:
        """Return all registered hotkeys in the state of ``block``."""
        return await self._read_at(block, lambda: state.metagraph(self._db, self.parameters, block))

    async def commitments(self, block: int) -> dict[str, bytes]:
        """Return hotkey -> slot in the state of ``block``, also of hotkeys that have been evicted."""
        return await self._read_at(block, lambda: state.slots(self._db, block))

    async def commit(self, payload: bytes) -> int:
        """Overwrite our slot; return the block it lands in. Writing what already waits for the next block changes nothing."""
        head = await self.head()
        if await self._read(lambda: state.waits(self._db, head.number + 1, self.hotkey, payload)):
            return head.number + 1

        def apply(block: int) -> None:
            ledger.commit(self._db, self.parameters, block, hotkey=self.hotkey, payload=payload)

        return await self._extrinsic("commit", {"payload": payload}, apply)

    async def set_weights(self, weights: dict[str, int], *, version_key: int) -> int:
        """Set our weights by hotkey; return the block they land in."""

        def apply(block: int) -> None:
            ledger.set_weights(self._db, self.parameters, block, hotkey=self.hotkey, weights=weights, version_key=version_key)

        return await self._extrinsic("set_weights", {"weights": dict(weights), "version_key": version_key}, apply)

    async def weights(self, block: int) -> dict[str, dict[str, int]]:
        """Return validator hotkey -> hotkey -> weight in the state of ``block``; the largest of a row is 65535."""
        return await self._read_at(block, lambda: state.weights(self._db, block))

    async def owner_hotkey(self) -> str:
        """Return the subnet owner's hotkey."""
        return await self._read(lambda: ledger.owner_hotkey(self._db))

    async def register(self, hotkey: str, coldkey: str, *, stake: int = 0) -> int:
        """Register a hotkey with a stake, free of charge; return the block it is registered from."""
        for address in (hotkey, coldkey):
            hotkey_public_key(address)

        def apply(block: int) -> None:
            ledger.register(self._db, self.parameters, block, hotkey=hotkey, coldkey=coldkey)
            ledger.set_stake(self._db, block, hotkey=hotkey, amount=stake)

        return await self._write("register", apply)

    async def set_stake(self, hotkey: str, amount: int) -> int:
        """Set the stake of a hotkey, free of charge; return the block from which it holds."""
        return await self._write("set_stake", lambda block: ledger.set_stake(self._db, block, hotkey=hotkey, amount=amount))

    async def join(self, name: str) -> None:
        """Take part in the barrier under ``name``: no block is made before we allow it. Joining again starts afresh."""

        def apply(block: int) -> None:
            self._db.execute("INSERT OR REPLACE INTO participants VALUES (?, ?)", (name, block - 1))

        await self._write("join", apply)
        self._participant = name

    async def leave(self) -> None:
        """Stop taking part in the barrier."""
        name, self._participant = self._participant, None
        await self._write("leave", lambda block: self._db.execute("DELETE FROM participants WHERE name = ?", (name,)))

    async def allow(self, block: int) -> None:
        """Allow blocks up to and including ``block``. Without effect before ``join``; never takes back."""
        query = "UPDATE participants SET allowed = max(allowed, ?) WHERE name = ?"
        if self._participant is not None:
            await self._write("allow", lambda _: self._db.execute(query, (block, self._participant)))

    async def waiting_for(self) -> tuple[str, ...]:
        """Return the names of the participants that do not allow the next block."""
        query = "SELECT name FROM participants WHERE allowed <= (SELECT max(number) FROM blocks) ORDER BY name"
        return await self._read(lambda: tuple(name for (name,) in self._db.execute(query)))

    async def wait_for(self, block: int) -> Head:
        """Return the head once ``block`` exists."""
        while (head := await self.head()).number < block:
            await asyncio.sleep(POLL_S)
        return head

    async def close(self) -> None:
        """Close the connection. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self.faults.released.set()
        await asyncio.wrap_future(self._thread.submit(self._db.close))
        self._thread.shutdown(wait=False)

    def _signer(self) -> Signer:
        if self._keypair is None:
            raise ConfigurationError(f"{self._name}: this connection has no hotkey to sign with")
        return self._keypair

    def _round(self, number: int) -> DrandRound | None:
        row = self._db.execute("SELECT signature FROM drand WHERE round = ?", (number,)).fetchone()
        return None if row is None else DrandRound(number=number, signature=bytes(row[0]))

    async def _read(self, query: Callable[[], Answer]) -> Answer:
        def run() -> Answer:
            with transaction(self._db, write=False):
                return query()

        return await self._call("read", run)

    async def _read_at(self, block: int, query: Callable[[], Answer]) -> Answer:
        def run() -> Answer:
            head = head_number(self._db)
            if not 0 <= block <= head:
                raise ChainUnavailable(f"{self._name}: there is no block {block} (yet), the head is {head}")
            return query()

        return await self._read(run)

    async def _write(self, what: str, apply: Callable[[int], object]) -> int:
        def run() -> int:
            with transaction(self._db, write=True):
                block = head_number(self._db) + 1
                apply(block)
                return block

        return await self._call(what, run)

    async def _extrinsic(self, call: str, body: dict[str, Any], apply: Callable[[int], None]) -> int:
        signer = self._signer()

        def signed(block: int) -> None:
            self.faults.before_extrinsic()
            (parent,) = self._db.execute("SELECT hash FROM blocks WHERE number = ?", (block - 1,)).fetchone()
            extrinsic = Extrinsic(hotkey=signer.key_id, call=call, body=body, parent=bytes(parent))
            ledger.authorise(self._db, extrinsic, signer.sign(extrinsic.digest()), block)
            apply(block)

        return await self._write(call, signed)

    async def _call(self, what: str, run: Callable[[], Answer]) -> Answer:
        def guarded() -> Answer:
            self.faults.before_call()
            with reported(f"{self._name}: {what}"):
                return run()

        try:
            return await asyncio.wait_for(asyncio.wrap_future(self._thread.submit(guarded)), self._deadline_s)
        except TimeoutError as error:
            raise ChainUnavailable(f"{self._name}: {what} had no answer within {self._deadline_s} s") from error
