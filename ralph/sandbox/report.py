"""What a preflight found."""

from dataclasses import dataclass

from ralph.errors import SandboxUnavailable


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """One attack on our own sandbox."""

    name: str
    blocked: bool
    detail: str
    """What stopped it, or what it got."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PreflightReport:
    """All attacks that were tried, and what this machine does not bound."""

    findings: tuple[Attack, ...]
    weaknesses: tuple[str, ...]
    """True sentences about this machine that no attack shows; they do not stop work."""
    duration_s: float

    @property
    def succeeded(self) -> tuple[Attack, ...]:
        """Return the attacks that got through."""
        return tuple(attack for attack in self.findings if not attack.blocked)

    @property
    def passed(self) -> bool:
        """Whether every attack was blocked."""
        return not self.succeeded

    def require(self) -> None:
        """Raise SandboxUnavailable with the attacks that got through, if any did."""
        if not self.passed:
            named = "; ".join(f"{attack.name} ({attack.detail})" for attack in self.succeeded)
            detail = f"attacks on our own sandbox succeeded: {named}"
            raise SandboxUnavailable(f"{detail}; do not run foreign code on this machine, see `ralph doctor --full`")
