"""What podman is started with, what is refused before it is, and what is said when it fails. Nothing here needs podman."""

import io
import subprocess
import tarfile
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from ralph.errors import ConfigurationError, SandboxUnavailable
from ralph.interfaces import SandboxLimits
from ralph.sandbox import container, container_options, diagnose_container, gpu, stage
from ralph.sandbox.container import ContainerSandbox, Image
from ralph.sandbox.container_options import Bound, Engine
from ralph.sandbox.diagnose import Machine
from ralph.sandbox.files import Copied
from ralph.sandbox.interpreter import Interpreter
from ralph.sandbox.options import Program, command

LIMITS = SandboxLimits(memory_bytes=1 << 28, processes=32, open_files=64, file_bytes=1 << 20, tmp_bytes=1 << 20, timeout_s=30.0)
ENGINE = Engine(podman="/usr/bin/podman", runtime="/usr/bin/crun")
PYTHON = Interpreter(
    executable=Path("/opt/python"), home=(Path("/opt/python"),), packages=(Path("/home/me/site"),), system=(Path("/usr/lib"),)
)
MACHINE = Machine(
    root=False,
    container=False,
    apparmor_restricts=False,
    userns_clone=True,
    max_user_namespaces=1000,
    system_administrator=False,
    worker_user_mapped=True,
)
DIGEST = "sha256:" + "0123456789abcdef" * 4


def run(limits: SandboxLimits = LIMITS, engine: Engine = ENGINE) -> tuple[str, ...]:
    inside = command(interpreter=PYTHON, program=Program(), limits=limits)
    folders = container_options.bound(PYTHON, limits)
    return container_options.run(engine, "/mnt", user=64321, limits=limits, folders=folders, command=inside)


def values(options: tuple[str, ...], name: str) -> list[str]:
    return [value for option, value in pairwise(options) if option == name]


def test_network_capabilities_and_new_privileges_are_taken_away_and_the_root_cannot_be_written() -> None:
    options = run()
    assert values(options, "--network") == ["none"]
    assert values(options, "--cap-drop") == ["all"]
    assert values(options, "--user") == ["64321:64321"]
    assert {"--read-only", "--read-only-tmpfs=false", "--unsetenv-all", "--http-proxy=false"} <= set(options)
    assert set(values(options, "--security-opt")) == {
        "no-new-privileges",
        "label=disable",
        "apparmor=unconfined",
        "seccomp=/mnt/seccomp.json",
    }
    assert not {"--privileged", "--cap-add", "--pid", "--userns", "--publish"} & set(options)


def test_only_scratch_is_writable_and_no_path_of_the_host_is_on_the_command_line() -> None:
    volumes = values(run(), "--volume")
    assert [volume for volume in volumes if not volume.endswith(":ro")] == ["/mnt/scratch:/tmp:rw,nosuid,nodev"]
    assert all(volume.startswith("/mnt/") for volume in volumes)
    assert not any("/home/me" in option for option in run())


def test_everything_that_podman_keeps_is_below_the_stage() -> None:
    options = ENGINE.command("/mnt")
    for name in ("--root", "--runroot", "--tmpdir", "--hooks-dir", "--network-config-dir"):
        assert values(options, name)[0].startswith("/mnt/")


def test_the_bootstrap_is_started_by_the_first_process_with_the_same_command_line_as_under_bubblewrap() -> None:
    options = run()
    inside = command(interpreter=PYTHON, program=Program(), limits=LIMITS)
    assert options[-len(inside) :] == inside
    assert options[-len(inside) - 6 : -len(inside)] == ("/opt/python", "-s", "-S", "-P", "-B", "/worker/container_init.py")


def test_the_environment_is_the_wanted_one_and_threads_follow_the_limits() -> None:
    wanted = dict(value.split("=", 1) for value in values(run(replace(LIMITS, threads=3)), "--env"))
    assert wanted["OMP_NUM_THREADS"] == "3"
    assert wanted["PYTHONHASHSEED"] == "0"
    assert not {"PATH", "HOSTNAME", "TERM"} & set(wanted)


def test_gpus_bring_their_devices_and_folders_and_an_image_cannot_have_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    names = ("nvidia0", "nvidiactl", "nvidia-uvm")
    monkeypatch.setattr(gpu, "require", lambda count: tuple(Path("/dev", name) for name in names) if count else ())
    options = run(replace(LIMITS, gpus=1))
    assert values(options, "--device") == [f"/dev/{name}:/dev/{name}" for name in names]
    assert {volume.split(":")[1] for volume in values(options, "--volume")} >= {"/usr", "/sys"}
    assert "CUBLAS_WORKSPACE_CONFIG=:4096:8" in values(options, "--env")
    assert values(run(), "--device") == []


def test_a_path_that_podman_would_take_apart_is_refused() -> None:
    odd = replace(PYTHON, home=(Path("/opt/a:b"),))
    with pytest.raises(SandboxUnavailable, match="colon"):
        container_options.bound(odd, LIMITS)
    assert container_options.bound(PYTHON, LIMITS)[-1] == Bound(source="/home/me/site", target="/packages/0")


@pytest.mark.parametrize(
    "reference",
    [
        "ralph/worker",
        "ralph/worker:latest",
        f"ralph/worker:v1@{DIGEST}",
        "ralph/worker@sha256:12",
        f"worker:v1@{DIGEST}",
        f"a b@{DIGEST}",
        "",
    ],
)
def test_an_image_that_is_not_named_by_its_digest_alone_is_refused(reference: str) -> None:
    with pytest.raises(ConfigurationError, match=r"not named by its digest.*RepoDigests"):
        Image(reference=reference, python=Path("/usr/bin/python3"), packages=())


@pytest.mark.parametrize("path", ["/opt/python", "/usr/../opt/python", "python3"])
def test_what_is_not_below_usr_of_an_image_is_refused(path: str) -> None:
    with pytest.raises(ConfigurationError, match="not below /usr"):
        Image(reference=f"localhost:5000/ralph/worker@{DIGEST}", python=Path(path), packages=())


def test_an_image_is_never_pulled_and_read_from_the_operators_store_only() -> None:
    engine = replace(ENGINE, images=Path("/var/lib/containers/storage"))
    text = engine.mount_image("/mnt", f"ralph/worker@{DIGEST}")
    assert "--pull never" in text
    assert "additionalimagestore=/var/lib/containers/storage" in text
    assert "--root /mnt/store" in text


@pytest.mark.parametrize(
    ("mount_image", "goes_on"),
    [("echo STAGE/image", True), ("false", False), ("true", False), ("echo /usr", False), ("made=$(false) && echo STAGE/image", False)],
)
def test_an_image_that_is_not_mounted_below_the_stage_ends_the_launch_and_never_means_the_host(
    mount_image: str, goes_on: bool, tmp_path: Path
) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("mount", "tar", "mkdir"):
        (programs / name).write_text("#!/bin/sh\n")
        (programs / name).chmod(0o755)
    image = mount_image.replace("STAGE", str(tmp_path))
    words = stage.script(
        str(tmp_path), user=1, limits=LIMITS, tree=0, mount_image=image, paths=("/usr/lib",), command=("/bin/echo", "started")
    )
    script = words[2].replace("echo 1000 > /proc/$$/oom_score_adj", "")
    done = subprocess.run([*words[:2], script, *words[3:]], check=False, capture_output=True, text=True, env={"PATH": str(programs)})
    assert ("started" in done.stdout) == goes_on == (done.returncode == 0), done.stderr


def test_the_stage_has_the_files_and_closes_the_folders_that_an_engine_fills(tmp_path: Path) -> None:
    files = (Copied(target="/worker/ralph/__init__.py", data=b"x = 1\n"), Copied(target="/recipe/train.py", data=b"y = 2\n"))
    archive = stage.tree(files, profile=b"{}", whole_usr=False, programs=False)
    with tarfile.open(fileobj=io.BytesIO(archive)) as read:
        members = {member.name: member for member in read}
        text = read.extractfile("root/recipe/train.py")
        assert text is not None
        assert text.read() == b"y = 2\n"
    assert all(member.uid == member.gid == 0 for member in members.values())
    assert {name: members[name].mode for name in ("root/etc", "root/run", "root/sys")} == dict.fromkeys(
        ("root/etc", "root/run", "root/sys"), 0o700
    )
    assert {member.mode for member in members.values() if member.isfile()} == {0o444}
    assert "root/bin" not in members
    assert not any(member.mode & 0o022 for member in members.values() if member.isdir())


def test_an_ordinary_user_gets_a_user_namespace_and_both_end_with_their_parent() -> None:
    for root in (True, False):
        prefix = stage.prefix(root=root)
        assert prefix[:3] == ("setpriv", "--pdeathsig", "KILL")
        assert {"--kill-child=KILL", "--pid", "--fork", "--mount"} <= set(prefix)
        assert ("--map-auto" in prefix) != root


def test_programs_that_are_missing_are_named_with_debians_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(container.shutil, "which", lambda name, path: None if name in {"podman", "newuidmap"} else f"/usr/bin/{name}")
    monkeypatch.setattr(container.os, "geteuid", lambda: 1000)
    with pytest.raises(SandboxUnavailable, match=r"podman, newuidmap are not installed. Install: `sudo apt install podman uidmap`"):
        ContainerSandbox()


@pytest.mark.parametrize(
    ("said", "machine", "step"),
    [
        ("unshare: unrecognized option '--map-auto'", MACHINE, "2.38"),
        ("unshare: no line matching user 1001 in /etc/subuid", MACHINE, "--add-subuids"),
        ("unshare: you (user 64999) don't exist.", MACHINE, "/etc/passwd"),
        ("mount: /mnt/scratch: bad option", replace(MACHINE, root=True, system_administrator=True, worker_user_mapped=False), "not mapped"),
        ("Error: OCI runtime error: crun: mount proc", replace(MACHINE, container=True), "inside a container"),
        ("crun: setresuid(64321): Invalid argument", MACHINE, "fewer than 65536"),
        ("unshare: unshare failed: Operation not permitted", replace(MACHINE, container=True), "inside a container"),
        ("unshare: unshare failed: No space left on device", replace(MACHINE, max_user_namespaces=0), "user.max_user_namespaces=15000"),
        ("unshare: unshare failed: Operation not permitted", replace(MACHINE, userns_clone=False), "unprivileged_userns_clone=1"),
        ("unshare: unshare failed: Operation not permitted", replace(MACHINE, apparmor_restricts=True), "apparmor_restrict"),
        ("unshare: unshare failed: Operation not permitted", replace(MACHINE, root=True), "CAP_SYS_ADMIN"),
        ("Error: requested OCI runtime runc is not compatible with NoCgroups", MACHINE, "crun 1.8"),
        ("Error: unknown flag: --preserve-fds", MACHINE, "podman 4.3"),
        ("/opt/python: error while loading shared libraries: libz.so.1", MACHINE, "a+rX"),
        ("something else", MACHINE, "podman info"),
    ],
)
def test_a_failure_is_explained_with_a_next_step(said: str, machine: Machine, step: str) -> None:
    assert step in diagnose_container.explain(said, machine)


def test_failures_of_an_image_name_the_image() -> None:
    reference = f"ralph/worker@{DIGEST}"
    assert f"podman pull {reference}" in diagnose_container.explain("Error: ralph: image not known", MACHINE, image=reference)
    assert "{{.Store.GraphDriverName}}" in diagnose_container.explain("kernel does not support overlay fs", MACHINE, image=reference)


def test_the_script_of_the_stage_is_one_that_every_shell_reads() -> None:
    words = stage.script("/mnt", user=1, limits=LIMITS, tree=9, mount_image="", paths=("/usr/lib",), command=("podman",))
    assert subprocess.run(["/bin/sh", "-n", "-c", words[2]], check=False).returncode == 0
    assert words[-3:] == ("/usr/lib", "--", "podman")
