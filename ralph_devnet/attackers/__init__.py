"""Scripted attackers and their honest twins: processes that see only the chain, the store and the public data.

An attacker uses the miner's own code wherever it suits him and replaces the rest. Each has a twin that does the
same thing without the cheat, in the same run, so that a refusal shows the cheat and nothing else.
"""

from ralph_devnet.attackers.cast import CAST, Role

__all__ = ["CAST", "Role"]
