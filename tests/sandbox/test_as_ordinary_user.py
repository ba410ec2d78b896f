"""What only an ordinary user meets. Not collected for root."""

from pathlib import Path

from tests.sandbox.launched import launched

NO_NAMESPACES = 'echo 0 > /proc/sys/user/max_user_namespaces && exec setpriv --inh-caps=-all --ambient-caps=-all "$@"'


def test_a_kernel_that_allows_no_user_namespaces_is_named_with_its_setting(packages: tuple[Path, ...], recipe: Path) -> None:
    shell = ["unshare", "--user", "--map-current-user", "--keep-caps", "sh", "-c", NO_NAMESPACES, "sh"]
    assert "sudo sysctl -w user.max_user_namespaces=15000" in launched(shell, packages, recipe)
