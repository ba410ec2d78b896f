"""Everything a miner works with, and where its patches come from."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ralph.data.dataset import DataSet
from ralph.interfaces import BundleStore, Chain, Sandbox, Signer
from ralph.protocol.announcement import Environment, Hypothesis
from ralph.protocol.network import NetworkProfile
from ralph.protocol.patch import RecipeTree
from ralph.records.events import EventTable


class Proposal(Protocol):
    """A patch somebody wants to submit."""

    @property
    def tree(self) -> RecipeTree: ...
    @property
    def hypothesis(self) -> Hypothesis: ...


class PatchSource(Protocol):
    """Where patches come from: a research agent, a file, a person."""

    def start(self, king: RecipeTree) -> None:
        """Begin, or begin again, on this king."""
        ...

    def step(self) -> object:
        """Do one piece of work. May take minutes; called off the event loop."""
        ...

    def candidate(self) -> Proposal | None:
        """Return what should be announced now, or None."""
        ...

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do on this king."""
        ...

    def more(self) -> bool:
        """Go on with this king although it was finished; return False when there is nothing to go on with."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class MinerServices:
    """Adapters, data and keys of one miner."""

    profile: NetworkProfile
    chain: Chain
    store: BundleStore
    private: BundleStore
    """Runs and preimages that are not submitted yet."""
    sandbox: Sandbox
    data: DataSet
    hotkey: Signer
    events: EventTable
    environment: Environment
    genesis: RecipeTree
    scratch: Path
    validator: str
    """Hotkey of the validator whose Records are followed."""
