"""The exception tree, split by who is at fault.

    RalphError
    ├── UntrustedInputError      the miner's bytes or code: the Case is Rejected with a reason code
    ├── InfrastructureError      our network, disk, GPU or sandbox: the Case is Deferred, never Rejected
    │   ├── ChainUnavailable     no answer from the chain within the deadline
    │   ├── StoreUnavailable     no answer from the bundle store
    │   └── SandboxUnavailable   no working sandbox on this machine
    ├── ChainRejected            the chain answered "no" to what we sent
    ├── ConfigurationError       the operator's files, keys or arguments
    └── CorruptStateError        our own state does not verify: stop, never guess

Anything else that escapes is a bug.
"""


class RalphError(Exception):
    """Base of every error a caller may want to catch.

    Args:
        code: Reason code such as ``INT-SIZE``; see ``ralph.protocol.reasons``.
        detail: One sentence with the measured value and the limit.
    """

    default_code = "OPS-INFRA"

    def __init__(self, detail: str, *, code: str | None = None) -> None:
        self.code = code or self.default_code
        self.detail = detail
        super().__init__(f"{self.code}: {detail}")


class UntrustedInputError(RalphError):
    """A miner's bytes or code broke a rule. Carries the reason code of the rule."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail, code=code)


class InfrastructureError(RalphError):
    """Something of ours failed; the work is retried and costs the miner nothing."""


class ChainUnavailable(InfrastructureError):
    """The chain did not answer in time."""


class StoreUnavailable(InfrastructureError):
    """The bundle store did not answer, or an object is not there (yet)."""


class SandboxUnavailable(InfrastructureError):
    """No working sandbox; the message says what to install or allow."""


class ChainRejected(RalphError):
    """The chain refused an extrinsic.

    Args:
        code: The chain's own error name, for example ``RateLimitExceeded``.
        retry_after_blocks: How long to wait, or None when waiting does not help.
    """

    def __init__(self, code: str, detail: str, *, retry_after_blocks: int | None = None) -> None:
        super().__init__(detail, code=code)
        self.retry_after_blocks = retry_after_blocks


class ConfigurationError(RalphError):
    """The operator's configuration cannot be used. Exit status 3."""

    default_code = "OPS-CONFIG"


class CorruptStateError(RalphError):
    """State of ours does not verify. Missing is not corrupt; corrupt stops the process."""

    default_code = "OPS-CORRUPT"
