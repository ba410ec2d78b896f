"""Everything a validator works with, put together once by its entry point."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ralph.data.dataset import DataSet
from ralph.evaluate.core22.examining import Examination
from ralph.interfaces import BundleStore, Chain, Executor, PrivateStore, RecordSigner, Sandbox, Signer
from ralph.protocol.announcement import Environment
from ralph.protocol.network import NetworkProfile
from ralph.protocol.patch import RecipeTree
from ralph.records.events import EventTable
from ralph.repository.git import RecipeRepository
from ralph.validator.hidden import Pools


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """Adapters, data and keys of one validator."""

    profile: NetworkProfile
    chain: Chain
    store: BundleStore
    private: PrivateStore
    """Only on this machine: claims and losses on hidden documents, and the weights of runs that are compared later."""
    sandbox: Sandbox
    executor: Executor
    events: EventTable
    repository: RecipeRepository
    data: DataSet
    pools: Pools
    hotkey: Signer
    record_key: RecordSigner
    genesis: RecipeTree
    environment: Callable[[], Environment]
    """Describes the stack that runs measurements; asked only when something is to be measured."""
    scratch: Path
    examinations: tuple[Examination, ...] = ()
    """What the Rules guard beside text, in their order."""
