"""Faults that a test asks for at one connection: nothing else switches them on."""

import threading
from dataclasses import dataclass, field

from ralph.errors import ChainRejected, ChainUnavailable


@dataclass(slots=True, kw_only=True)
class Faults:
    """What goes wrong on a connection. Set the fields at any time."""

    outage: bool = False
    """Every call fails at once with ``ChainUnavailable``."""
    delay_s: float = 0.0
    """Every call takes this much longer; beyond the deadline it fails with ``ChainUnavailable``."""
    rejections: list[ChainRejected] = field(default_factory=list)
    """The next extrinsics are refused with these, in order."""
    released: threading.Event = field(default_factory=threading.Event)
    """Ends delays in progress."""

    def before_call(self) -> None:
        """Fail or delay the call that is about to run."""
        if self.outage:
            raise ChainUnavailable("outage (injected)")
        if self.delay_s:
            self.released.wait(self.delay_s)

    def before_extrinsic(self) -> None:
        """Refuse the extrinsic that is about to be applied."""
        if self.rejections:
            raise self.rejections.pop(0)
