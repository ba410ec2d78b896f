"""Where edits come from: one interface, two programs.

``optimiser`` moves numbers, ``grammar`` switches choices. Neither knows anything of a recipe but what its configuration declares.
"""

from enum import StrEnum

from ralph.agent.proposers.grammar import Grammar
from ralph.agent.proposers.interface import Context, Proposal, Proposer, Trial
from ralph.agent.proposers.optimiser import Optimiser

__all__ = ["Context", "Program", "Proposal", "Proposer", "Trial", "proposer_for"]


class Program(StrEnum):
    """A named way to research."""

    OPTIMISER = "optimiser"
    GRAMMAR = "grammar"


def proposer_for(program: Program) -> Proposer:
    """Return the proposer of a program. Raises ConfigurationError when it needs a package that is not installed."""
    return Optimiser() if program is Program.OPTIMISER else Grammar()
