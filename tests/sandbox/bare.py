"""bubblewrap as somebody might start it who has read its manual once."""

import subprocess

_OPTIONS = ["--unshare-all", "--unshare-user", "--cap-drop", "ALL", "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev"]


def bare(
    *command: str, options: tuple[str, ...] = (), env: dict[str, str] | None = None, close_fds: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run ``command`` under bubblewrap with the usual options and ``options``."""
    return subprocess.run(
        ["/usr/bin/bwrap", *_OPTIONS, *options, "--", *command],
        check=False,
        capture_output=True,
        text=True,
        timeout=30,
        env=env,
        close_fds=close_fds,
    )
