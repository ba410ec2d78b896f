"""What a node's configuration leads to: the validator's published history, verified, and the chain beside it."""

import asyncio
from dataclasses import dataclass
from pathlib import Path

from ralph.auditor.audit import find_validator
from ralph.chain.local import LocalChain
from ralph.cli.nodes import open_profile
from ralph.config import Config, load_config
from ralph.errors import ConfigurationError, CorruptStateError
from ralph.interfaces import Head, Metagraph
from ralph.protocol.network import NetworkProfile
from ralph.protocol.rounds import round_at
from ralph.records.history import Entry, History, anchor_of
from ralph.store.directory import DirectoryStore

STALE_ROUNDS = 2
"""Rounds without a Record after which records are called stale."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """A validator's history and the state of the chain."""

    config: Config
    profile: NetworkProfile
    validator: str
    history: History
    head: Head
    metagraph: Metagraph
    slots: dict[str, bytes]
    weights: dict[str, int]
    """What the validator has set, by hotkey."""
    waiting_for: tuple[str, ...]
    """Nodes that do not allow the next block."""

    @property
    def entries(self) -> tuple[Entry, ...]:
        """Return every Record, oldest first."""
        return self.history.entries

    @property
    def round_index(self) -> int:
        """Return the round of the newest block."""
        return round_at(self.profile.rules.rounds, self.head.number)

    @property
    def stale(self) -> bool:
        """Return whether the validator has been silent for too long."""
        return self.round_index - self.history.throne.round_index > STALE_ROUNDS


def read_situation(path: Path) -> Situation:
    """Read and verify everything. Raises CorruptStateError when what is published does not verify."""
    config = load_config(path)
    return asyncio.run(_read(config, open_profile(config)))


async def _read(config: Config, profile: NetworkProfile) -> Situation:
    chain = LocalChain.connect(config.chain)
    try:
        if await chain.block_hash(0) != profile.chain:
            raise ConfigurationError(f"{config.chain} is another chain than the profile's")
        head = await chain.head()
        slots = await chain.commitments(head.finalised)
        validator = config.validator or await find_validator(chain)
        history = History(DirectoryStore(config.store), profile, validator)
        anchor = anchor_of(slots.get(validator))
        if anchor is not None:
            _read_verified(history, anchor)
        return Situation(
            config=config,
            profile=profile,
            validator=validator,
            history=history,
            head=head,
            metagraph=await chain.snapshot(head.number),
            slots=slots,
            weights=(await chain.weights(head.number)).get(validator, {}),
            waiting_for=await chain.waiting_for(),
        )
    finally:
        await chain.close()


def _read_verified(history: History, anchor: bytes) -> None:
    try:
        history.read(anchor)
    except CorruptStateError as error:
        raise CorruptStateError(f"{error.detail}; `ralph audit run` says everything that differs") from error
