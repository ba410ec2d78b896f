"""The names under which a chain says no: the ``code`` of ``ChainRejected``."""

from enum import StrEnum


class Refusal(StrEnum):
    """Error names as subtensor's pallets spell them, where they have one."""

    NOT_REGISTERED = "HotKeyNotRegisteredInSubNet"
    COMMITTER_NOT_REGISTERED = "AccountNotAllowedCommit"
    ALREADY_REGISTERED = "HotKeyAlreadyRegisteredInSubNet"
    NO_UID = "NoNeuronIdAvailable"
    TOO_MANY_BYTES = "TooManyBytes"
    """The SDK's encoder refuses this before a real chain sees it: no field holds more than 128 raw bytes."""
    SPACE_LIMIT = "SpaceLimitExceeded"
    BAD_SIGNATURE = "BadProof"
    STALE = "AncientBirthBlock"
    NO_PERMIT = "NeuronNoValidatorPermit"
    WEIGHTS_TOO_FAST = "SettingWeightsTooFast"
    WEIGHTS_VERSION = "IncorrectWeightVersionKey"
    WEIGHTS_UNKNOWN_UID = "UidVecContainInvalidOne"
    WEIGHTS_LENGTH = "WeightVecLengthIsLow"
    WEIGHTS_RANGE = "MaxWeightExceeded"
    TOO_MANY_UNREVEALED = "TooManyUnrevealedCommits"
