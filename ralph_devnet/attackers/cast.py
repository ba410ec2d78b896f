"""Who tries what, who his twin is, and the reason code that must stop him."""

from dataclasses import dataclass

from ralph.protocol.reasons import Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """One scripted participant."""

    name: str
    description: str
    expected: Reason | None
    """Reason that refuses him; None for a twin, who must not be refused."""
    twin: str | None
    """Name of the honest twin. None for a twin, and for the copycat, whose twin is whoever he copies."""


CAST = (
    Role(name="copycat", description="announces a published patch again, with a comment added", expected=Reason.INT_DUP, twin=None),
    Role(name="peeker", description="its model looks at the token that it is to predict", expected=Reason.FRD_CLAIM, twin="causal"),
    Role(name="glimpser", description="its model looks ahead at one token in a hundred", expected=Reason.FRD_CLAIM, twin="causal"),
    Role(name="causal", description="the same model code, looking ahead never", expected=None, twin=None),
    Role(
        name="lucky",
        description="trains on many private seeds and submits the best as the drawn one",
        expected=Reason.FRD_REPLAY,
        twin="plain",
    ),
    Role(name="plain", description="a change of the same kind, trained on the drawn seed", expected=None, twin=None),
)
