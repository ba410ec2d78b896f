"""Put nodes together from a Config: adapters, keys, data. Used by the CLI and by `neurons/`."""

import asyncio
import functools
import logging
import os
import signal
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ralph.chain.local import LocalChain
from ralph.chain.wallet import Hotkey, RecordKey
from ralph.cli.sandboxes import open_sandbox
from ralph.config import Config, load_profile
from ralph.data.dataset import DataSet, DocumentSet, open_data
from ralph.data.pool import open_pool
from ralph.data.tokenizer import open_tokenizer
from ralph.errors import ConfigurationError
from ralph.evaluate.core22.examining import Examination
from ralph.evaluate.core22.guarded import Setting, task_examination
from ralph.evaluate.core22.private import open_items, private_examination
from ralph.executors.local import LocalExecutor
from ralph.interfaces import Sandbox
from ralph.judge import canary
from ralph.judge.sequential import check
from ralph.miner.services import MinerServices
from ralph.protocol.network import NetworkProfile
from ralph.protocol.patch import RecipeTree
from ralph.records.events import EventTable
from ralph.repository.genesis import genesis_recipe
from ralph.repository.git import RecipeRepository
from ralph.store.directory import DirectoryStore
from ralph.train.environment import describe
from ralph.validator.hidden import Pools
from ralph.validator.services import Services

logger = logging.getLogger(__name__)


def open_profile(config: Config) -> NetworkProfile:
    """Read and check the network profile."""
    profile = load_profile(config.profile)
    try:
        check(profile.rules.crown)
        canary.check(profile.rules)
    except ValueError as error:
        raise ConfigurationError(f"{config.profile}: crown rule: {error}") from error
    return profile


def open_genesis(profile: NetworkProfile) -> RecipeTree:
    """Return the genesis recipe, which must be the profile's."""
    tree = genesis_recipe()
    if tree.digest() != profile.rules.genesis_tree:
        detail = "this installation's recipe is not the genesis of the network profile; run `ralph init` again or install the right release"
        raise ConfigurationError(detail)
    return tree


async def open_chain(config: Config, profile: NetworkProfile, hotkey: Hotkey | None, *, participant: str | None) -> LocalChain:
    """Connect to the profile's chain, as a participant of its barrier when a name is given."""
    chain = LocalChain.connect(config.chain, keypair=hotkey)
    if await chain.block_hash(0) != profile.chain:
        raise ConfigurationError(f"{config.chain} is another chain than the profile's")
    if participant is not None:
        await chain.join(participant)
    return chain


def open_hotkey(config: Config) -> Hotkey:
    """Load the node's hotkey."""
    return Hotkey.load(config.keys.wallets, config.keys.coldkey, config.keys.hotkey)


def scratch(config: Config) -> Path:
    """Return the node's directory for temporary files."""
    path = config.state / "scratch"
    path.mkdir(parents=True, exist_ok=True)
    return path


def open_public_data(config: Config, profile: NetworkProfile) -> DataSet:
    """Open and verify the track's public data."""
    return open_data(config.data, expect=profile.rules.data.manifest)


def open_pools(config: Config, profile: NetworkProfile, data: DataSet) -> Pools:
    """Open the validator's hidden pool and its refreshes. Raises ConfigurationError with the key that is missing."""
    if config.hidden is None or config.hidden_key is None:
        raise ConfigurationError("a validator needs `hidden` and `hidden_key` in its configuration")
    first = open_pool(config.hidden, key=config.hidden_key, expect=profile.rules.data.hidden_commitment)
    refreshed = (open_pool(place, key=config.hidden_key, expect=None) for place in config.hidden_refreshed)
    return Pools(pools=(first, *refreshed), data=data)


def open_hidden_documents(config: Config, profile: NetworkProfile, data: DataSet) -> DocumentSet:
    """Open the shard of the validator's hidden pool that screens."""
    pools = open_pools(config, profile, data)
    return pools.documents(profile.rules.data.hidden_commitment, "screen")


async def validator_services(config: Config, sandbox: Sandbox) -> Services:
    """Build a validator over a sandbox. Raises ConfigurationError with the key that is missing."""
    if config.keys.record_key is None:
        raise ConfigurationError("a validator needs `hidden`, `hidden_key` and `keys.record_key` in its configuration")
    profile = open_profile(config)
    rules, genesis, hotkey = profile.rules, open_genesis(profile), open_hotkey(config)
    data = open_public_data(config, profile)
    rung = rules.rung(rules.crown.rung)
    filler = data.validation.rows(1, rung.sequence).filler
    return Services(
        profile=profile,
        chain=await open_chain(config, profile, hotkey, participant=f"validator {hotkey.key_id}"),
        store=DirectoryStore(config.store),
        private=DirectoryStore(config.state / "private", private=True),
        sandbox=sandbox,
        executor=LocalExecutor(config.slots),
        events=EventTable.open(config.state / "events.sqlite"),
        repository=RecipeRepository.create(config.state / "recipe.git", genesis),
        data=data,
        pools=open_pools(config, profile, data),
        hotkey=hotkey,
        record_key=RecordKey.load(config.keys.record_key),
        genesis=genesis,
        environment=functools.cache(lambda: describe(sandbox, genesis, rung, scratch=scratch(config))),
        scratch=scratch(config),
        examinations=open_examinations(config, profile, data, hotkey=hotkey.key_id, filler=filler),
    )


def open_examinations(
    config: Config, profile: NetworkProfile, data: DataSet, *, hotkey: str, filler: npt.NDArray[np.int32]
) -> tuple[Examination, ...]:
    """Open what the Rules guard beside text. Raises ConfigurationError with the key that is missing or what differs."""
    rules = profile.rules
    tasks, private = rules.guards.tasks, rules.guards.private_items
    found = []
    if tasks is None and private is None:
        return ()
    setting = Setting(
        tokenizer=open_tokenizer(data.tokenizer_bytes, vocabulary=data.vocabulary),
        sequence=rules.rung(rules.crown.rung).sequence,
        batch_rows=rules.evaluation.batch_rows,
        filler=filler,
    )
    if tasks is not None:
        if config.core is None:
            raise ConfigurationError("the Rules guard downstream tasks: a validator needs `core`, the bundle, in its configuration")
        found.append(task_examination(config.core, tasks, rules.exam, setting))
    if private is not None:
        if config.private_items is None or config.private_items_key is None:
            raise ConfigurationError("the Rules guard private items: a validator needs `private_items` and `private_items_key`")
        pool = open_items(config.private_items, key=config.private_items_key, expect=private.commitment)
        found.append(private_examination(pool, private, rules.exam, setting=setting, beacon=profile.chain, hotkey=hotkey))
    return tuple(found)


async def miner_services(config: Config) -> MinerServices:
    """Build a miner. Raises ConfigurationError with the key that is missing."""
    if config.validator is None:
        raise ConfigurationError("a miner needs `validator`, the hotkey whose records it follows, in its configuration")
    profile = open_profile(config)
    genesis, hotkey, sandbox = open_genesis(profile), open_hotkey(config), open_sandbox(config)
    rung = profile.rules.rung(profile.rules.crown.rung)
    return MinerServices(
        profile=profile,
        chain=await open_chain(config, profile, hotkey, participant=f"miner {hotkey.key_id}"),
        store=DirectoryStore(config.store),
        private=DirectoryStore(config.state / "private", private=True),
        sandbox=sandbox,
        data=open_public_data(config, profile),
        hotkey=hotkey,
        events=EventTable.open(config.state / "events.sqlite"),
        environment=describe(sandbox, genesis, rung, scratch=scratch(config)),
        genesis=genesis,
        scratch=scratch(config),
        validator=config.validator,
    )


def run_until_stopped(main: Callable[[asyncio.Event], Coroutine[Any, Any, None]], *, ending: Callable[[], None] | None = None) -> None:
    """Run a daemon until it ends or SIGTERM or SIGINT arrives.

    A signal ends the process at once, whatever thread is waiting for a training: every step is resumable,
    and workers die with their launcher. ``ending`` is called before such an end, and in no other.
    """

    async def supervised() -> None:
        stop = asyncio.Event()
        task = asyncio.ensure_future(main(stop))
        stopping = asyncio.ensure_future(stop.wait())
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        await asyncio.wait((task, stopping), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            logger.info("stopped by a signal; the next start resumes here")
            if ending is not None:
                ending()
            logging.shutdown()
            os._exit(0)
        stopping.cancel()
        await task

    asyncio.run(supervised())
