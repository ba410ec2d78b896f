"""Choose the launcher of sandboxes by configuration."""

from ralph.config import Config, Launcher
from ralph.errors import ConfigurationError
from ralph.sandbox.bubblewrap import BubblewrapSandbox
from ralph.sandbox.container import ContainerSandbox, Image


def open_sandbox(
    config: Config | None, *, launcher: Launcher | None = None, in_memory: bool = False
) -> BubblewrapSandbox | ContainerSandbox:
    """Return the sandbox that a configuration chooses, bubblewrap without one.

    Args:
        config: A node's configuration.
        launcher: Another launcher than the configuration's.
        in_memory: Sandboxes can tell later ones nothing of what they read: for whoever shows hidden text to foreign code.

    Raises:
        ConfigurationError: An image is named and the launcher takes none.
        SandboxUnavailable: The launcher is not installed; no other one is tried.
    """
    chosen = launcher or (config.sandbox if config is not None else Launcher.BUBBLEWRAP)
    image = config.image if config is not None else None
    if chosen is Launcher.PODMAN:
        return ContainerSandbox(image=None if image is None else Image(**dict(image)), in_memory=in_memory)
    if image is not None:
        raise ConfigurationError('only podman runs an image; set `sandbox = "podman"` or remove `image`')
    return BubblewrapSandbox(in_memory=in_memory)
