"""Set up a development network on this machine: data, chain, keys, profile, and one TOML per node."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ralph.chain.local import LocalChain
from ralph.chain.producer import create
from ralph.chain.schema import ChainParameters
from ralph.chain.wallet import Hotkey, RecordKey, write_coldkey_address
from ralph.cli.exams import Exams
from ralph.config import Config, Keys, Research, save_config, save_profile
from ralph.data.layout import MANIFEST
from ralph.data.partition import Progress
from ralph.data.poolkey import PoolKey, key_beside
from ralph.data.prepare import prepare
from ralph.data.shards import data_manifest, pool_commitment
from ralph.evaluate.reviewed import code_digest
from ralph.protocol.canonical import digest
from ralph.protocol.network import NetworkProfile, devnet_rules
from ralph.protocol.rules import Rules
from ralph.repository.genesis import genesis_recipe
from ralph.store.directory import DirectoryStore

SEED_TAG = "recipe-net/devnet-seed/v1"
STAKE = 1_000_000_000_000
VALIDATOR, OWNER = "validator", "owner"
PRIVATE = "private-items"


class MakeRules(Protocol):
    """Makes the Rules of a devnet, as ``devnet_rules`` does."""

    def __call__(self, *, genesis_tree: bytes, manifest: bytes, vocabulary: int, hidden: bytes, sources: tuple[str, ...]) -> Rules: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class MinerPlan:
    """A miner to be."""

    name: str
    research: Research = Research()


@dataclass(frozen=True, slots=True, kw_only=True)
class Devnet:
    """Where everything is."""

    home: Path
    profile: NetworkProfile
    validator: str
    hotkeys: dict[str, str]
    """Node name -> hotkey."""

    def config(self, name: str) -> Path:
        """Return the TOML of a node."""
        return self.home / name / "config.toml"

    @property
    def chain(self) -> Path:
        """Return the chain's file."""
        return self.home / "chain.sqlite"


def derived(seed: int, purpose: str) -> bytes:
    """Return 32 bytes for a purpose of a repeatable devnet."""
    return digest(SEED_TAG, {"seed": seed, "purpose": purpose})


def set_up(
    home: Path,
    *,
    seed: int,
    miners: Sequence[MinerPlan],
    data: Path | None = None,
    rules: MakeRules = devnet_rules,
    exams: Exams | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Devnet:
    """Make a devnet.

    Args:
        home: Where everything goes.
        data: Prepared data, used again when it is there; ``home/data`` by default.
        progress: Called while data is prepared.
        seed: Fixes keys, beacons and the miners' research, so that a devnet can be repeated.
        miners: Names and research programs; each gets its own coldkey.
        rules: Makes the Rules from the digests of recipe and data.
        exams: What is guarded beside text; nothing by default.
    """
    exams = exams or Exams()
    read = exams.read()
    home.mkdir(parents=True, exist_ok=True)
    data = data or home / "data"
    public, hidden = data / "public", data / "hidden"
    _prepare(public, hidden, secret=derived(seed, "hidden pool"), progress=progress)
    manifest = _manifest_digest(public)
    pool = pool_commitment(hidden)
    genesis = genesis_recipe()
    chosen = rules(
        genesis_tree=genesis.digest(),
        manifest=manifest[0],
        vocabulary=manifest[1],
        hidden=pool.digest(),
        sources=pool.source_names,
    )
    evaluation = chosen.evaluation.model_copy(update={"reviewed": (code_digest(genesis),)})
    chosen = chosen.model_copy(update={"evaluation": evaluation})
    chosen = read.guarded(chosen, place=home / PRIVATE, secret=derived(seed, "private items"))
    hotkeys, chain_hash = _people(home, seed, [OWNER, VALIDATOR, *(plan.name for plan in miners)])
    profile = NetworkProfile(name="devnet", chain=chain_hash, netuid=1, rules=chosen)
    save_profile(home / "devnet.toml", profile)
    DirectoryStore(home / "store")
    devnet = Devnet(
        home=home, profile=profile, validator=hotkeys[VALIDATOR].key_id, hotkeys={name: key.key_id for name, key in hotkeys.items()}
    )
    for plan in (MinerPlan(name=VALIDATOR), *miners):
        save_config(devnet.config(plan.name), _config(devnet, plan, public, hidden, exams.core))
    return devnet


def _people(home: Path, seed: int, names: Sequence[str]) -> tuple[dict[str, Hotkey], bytes]:
    """Make the keys and a chain on which all are registered; return the hotkeys and the hash of the chain's first block."""
    hotkeys = {name: _hotkey(home, name, derived(seed, f"hotkey {name}")) for name in names}
    RecordKey.create(home / VALIDATOR / "record.key", seed=derived(seed, "record key"))
    create(
        home / "chain.sqlite",
        seed=derived(seed, "chain"),
        owner_hotkey=hotkeys[OWNER].key_id,
        owner_coldkey=_coldkey(seed, OWNER),
        parameters=ChainParameters(),
    )
    return hotkeys, asyncio.run(_register(home, seed, hotkeys))


def _prepare(public: Path, hidden: Path, *, secret: bytes, progress: Callable[[Progress], None] | None) -> None:
    """Prepare data unless there are some with a key to them. The key follows from the seed, so that the commitment repeats."""
    key = key_beside(hidden)
    if (public / MANIFEST).is_file() and (hidden / MANIFEST).is_file() and key.is_file():
        return
    if not key.exists():
        PoolKey.create(key, secret=secret)
    prepare(public, hidden=hidden, key=key, progress=progress)


def _manifest_digest(public: Path) -> tuple[bytes, int]:
    manifest = data_manifest(public)
    return manifest.digest(), manifest.vocabulary


def _coldkey(seed: int, name: str) -> str:
    return Hotkey.from_seed(derived(seed, f"coldkey {name}")).key_id


def _hotkey(home: Path, name: str, seed: bytes) -> Hotkey:
    return Hotkey.create(home / name / "wallets", name, "default", seed=seed)


async def _register(home: Path, seed: int, hotkeys: dict[str, Hotkey]) -> bytes:
    chain = LocalChain.connect(home / "chain.sqlite")
    try:
        for name, hotkey in hotkeys.items():
            if name != OWNER:
                await chain.register(hotkey.key_id, _coldkey(seed, name), stake=STAKE if name == VALIDATOR else 0)
            write_coldkey_address(home / name / "wallets", name, _coldkey(seed, name))
        return await chain.block_hash(0)
    finally:
        await chain.close()


def _config(devnet: Devnet, plan: MinerPlan, public: Path, hidden: Path, core: Path | None) -> Config:
    is_validator = plan.name == VALIDATOR
    private, guarded = devnet.home / PRIVATE, devnet.profile.rules.guards.private_items is not None
    state = devnet.home / plan.name
    return Config(
        state=state.absolute(),
        profile=(devnet.home / "devnet.toml").absolute(),
        chain=devnet.chain.absolute(),
        store=(devnet.home / "store").absolute(),
        data=public.absolute(),
        hidden=hidden.absolute() if is_validator else None,
        hidden_key=key_beside(hidden) if is_validator else None,
        core=core.absolute() if is_validator and core is not None else None,
        private_items=private.absolute() if is_validator and guarded else None,
        private_items_key=key_beside(private) if is_validator and guarded else None,
        validator=None if is_validator else devnet.validator,
        keys=Keys(
            wallets=(state / "wallets").absolute(),
            coldkey=plan.name,
            hotkey="default",
            record_key=(state / "record.key").absolute() if is_validator else None,
        ),
        research=plan.research,
    )
