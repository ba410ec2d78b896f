"""One operator's paths, endpoints and keys: the only module that reads configuration files and the environment.

Nothing here can change a verdict: what validators must agree on is in the network profile.
"""

import os
import tomllib
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ralph.errors import ConfigurationError
from ralph.protocol.network import NetworkProfile
from ralph.store.files import replace_file

HOME_VARIABLE = "RALPH_HOME"


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Keys(_Section):
    """Key files."""

    wallets: Path
    coldkey: str
    hotkey: str
    record_key: Path | None = None
    """ed25519 key that signs Records; validators only."""


class Research(_Section):
    """The built-in research agent of a miner."""

    program: Literal["optimiser", "grammar"] = "optimiser"
    experiments: Annotated[int, Field(ge=1)] = 12
    """Experiments per king."""
    seed: Annotated[int, Field(ge=0)] = 0


class Launcher(StrEnum):
    """What starts the sandboxes. There is no fallback from one to another."""

    BUBBLEWRAP = "bubblewrap"
    PODMAN = "podman"


class WorkerImage(_Section):
    """An image whose interpreter and packages run in the sandbox; with podman only."""

    reference: str
    """By digest: ``repository@sha256:...``."""
    python: Path
    packages: tuple[Path, ...]
    store: Path | None = None
    """podman's store with the image in it; by default the one of the user who runs the node."""


class Config(_Section):
    """Everything one node needs to know."""

    state: Path
    """Directory of this node's own state."""
    profile: Path
    chain: Path
    store: Path
    data: Path
    hidden: Path | None = None
    """Hidden pool; validators only."""
    hidden_key: Path | None = None
    """Key that opens the hidden pool and its refreshes; validators only."""
    hidden_refreshed: tuple[Path, ...] = ()
    """What `ralph data refresh` wrote, oldest first; the last is committed to from the next Record on."""
    core: Path | None = None
    """Folder or zip file of the CORE-22 bundle, where the Rules guard its tasks; validators only."""
    private_items: Path | None = None
    """Sealed private items, where the Rules guard them; validators only."""
    private_items_key: Path | None = None
    """Key that opens them; validators only."""
    validator: str | None = None
    """Hotkey of the validator to follow; miners and auditors only."""
    keys: Keys
    slots: Annotated[int, Field(ge=1, le=256)] = 2
    """Trainings and evaluations at the same time."""
    json_log: bool = False
    sandbox: Launcher = Launcher.BUBBLEWRAP
    image: WorkerImage | None = None
    """In place of the host's interpreter and packages."""
    research: Research = Research()


def default_home() -> Path:
    """Return where `ralph init` puts a node: ``$RALPH_HOME``, else ``~/.ralph``."""
    return Path(os.environ.get(HOME_VARIABLE) or Path.home() / ".ralph")


def load_config(path: Path) -> Config:
    """Read a node's TOML; relative paths are relative to the file. Raises ConfigurationError with one clear line."""
    plain = _read_toml(path)
    try:
        config = Config.model_validate(plain)
    except ValidationError as error:
        raise ConfigurationError(f"{path}: {_first(error)}") from error
    base = path.absolute().parent
    return config.model_copy(update=_absolute(config, base))


def save_config(path: Path, config: Config) -> None:
    """Write a node's TOML."""
    _write(path, _without_none(config.model_dump(mode="json")))


def load_profile(path: Path) -> NetworkProfile:
    """Read a network profile. Raises ConfigurationError."""
    try:
        return NetworkProfile.from_plain(_read_toml(path))
    except ValidationError as error:
        raise ConfigurationError(f"{path}: {_first(error)}") from error


def save_profile(path: Path, profile: NetworkProfile) -> None:
    """Write a network profile as TOML, digests in hexadecimal."""
    _write(path, _without_none(_hexadecimal(profile.value())))


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigurationError(f"{path} does not exist; `ralph init` writes one") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path} is not TOML: {error}") from error


def _write(path: Path, plain: dict[str, Any]) -> None:
    replace_file(path, tomli_w.dumps(plain).encode())


def _absolute(config: Config, base: Path) -> dict[str, Any]:
    paths: dict[str, Any] = {name: base / value for name, value in config if isinstance(value, Path)}
    paths["hidden_refreshed"] = tuple(base / place for place in config.hidden_refreshed)
    keys = config.keys.model_copy(update={name: base / value for name, value in config.keys if isinstance(value, Path)})
    return {**paths, "keys": keys}


def _first(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: {first['msg']}"


def _hexadecimal(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, list):
        return [_hexadecimal(item) for item in value]
    if isinstance(value, dict):
        return {key: _hexadecimal(item) for key, item in value.items()}
    return value


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    return value
