"""The container launcher: what holds under bubblewrap holds here, and nothing of an engine is left. Skipped where podman cannot run."""

import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from ralph.data.dataset import DataSet
from ralph.errors import SandboxUnavailable
from ralph.interfaces import SandboxLimits, SandboxSpec
from ralph.sandbox import cgroups, identity, stage, usage
from ralph.sandbox.bubblewrap import BubblewrapSandbox
from ralph.sandbox.container import ContainerSandbox, Image
from ralph.sandbox.preflight import run_preflight
from ralph.sandbox.running import RunningSandbox
from ralph.train import host
from tests.attacks.sandbox.test_preflight import EXPECTED
from tests.sandbox.processes import alive, wait_for_end
from tests.sandbox.test_bubblewrap import (
    test_a_program_that_does_not_exist_is_reported_with_what_it_printed,
    test_a_recipe_of_too_many_files_is_refused_before_anything_starts,
    test_a_recipe_that_does_not_exist_is_ours_to_repair,
    test_installed_packages_can_be_imported,
    test_links_in_a_recipe_are_not_followed,
    test_no_path_of_the_recipe_on_the_host_is_visible,
    test_of_our_code_only_the_wire_format_and_the_worker_are_inside,
    test_our_code_is_found_before_any_installed_package_of_the_same_name,
    test_scratch_has_the_size_of_the_limits,
    test_string_hashes_repeat_from_one_sandbox_to_the_next,
    test_the_limits_hold_before_the_program_starts,
    test_the_recipe_is_a_read_only_copy_even_when_its_folder_is_private,
    test_the_threads_that_the_limits_allow_reach_numerical_libraries,
)
from tests.sandbox.test_leftovers import (
    DAEMONS,
    HOST,
    PROJECT,
    groups,
    mounts,
    temporary,
    test_daemons_are_gone_after_a_kill_and_so_is_everything_else,
    test_everything_is_gone_when_the_context_ends_by_an_error,
    test_no_descriptor_and_no_thread_is_left,
)
from tests.sandbox.test_ranks import (
    test_a_socket_is_refused_to_one_process_alone,
    test_of_all_attacks_a_sandbox_for_ranks_lets_only_the_tcp_socket_through,
    test_ranks_reach_each_other_and_no_listener_of_the_host,
)
from tests.sandbox.test_residue import test_a_sandbox_cannot_ask_what_is_in_memory_or_watch_files
from tests.sandbox.test_running import (
    test_a_flood_of_output_does_not_keep_a_worker_from_being_ended,
    test_a_worker_that_closes_its_channel_and_lives_on_is_ended,
    test_a_worker_that_kills_itself_is_a_crash_with_its_signal,
    test_a_worker_that_raises_is_a_crash_whose_last_words_only_the_operator_reads,
    test_after_a_kill_every_use_is_a_crash,
    test_an_answer_in_drops_is_a_stall,
    test_an_honest_worker_answers,
    test_answers_sent_before_a_worker_ended_are_still_read,
    test_killing_twice_is_killing_once,
    test_printing_byte_by_byte_costs_the_worker_and_not_the_host,
    test_processor_time_and_memory_are_measured,
    test_processor_time_of_children_counts,
    test_silence_is_a_stall_and_ends_the_worker,
    test_the_deadline_of_its_life_ends_a_worker_that_never_reads,
    test_the_deadline_of_its_life_ends_a_worker_that_nobody_talks_to,
    test_too_much_memory_in_all_processes_together_is_said_to_be_memory,
    test_too_much_memory_in_one_process_is_an_error_inside,
)
from tests.sandbox.test_seccomp import generator, test_this_kernel_refuses_every_listed_call_inside
from tests.train import material

pytestmark = pytest.mark.podman
Inside = Callable[..., AbstractContextManager[RunningSandbox]]
LIMITS = SandboxLimits(memory_bytes=1 << 28, processes=32, open_files=64, file_bytes=1 << 20, tmp_bytes=1 << 20, timeout_s=30.0)
FOOTPRINTS = (
    "/run/crun",
    "/run/libpod",
    "/run/containers",
    "/dev/shm/libpod_lock",
    "/var/lib/containers",
    "/var/lib/cni",
    "/etc/cni/net.d/cni.lock",
)
IMAGE_TIMEOUT_S = 60
MINIMAL = ("usr/lib64", "usr/lib/python3.11", "usr/bin/python3.11")


def unusable() -> str:
    """Return why podman cannot run here, apart from anything of ours; nothing when it can."""
    try:
        ContainerSandbox(packages=(Path("/usr/lib"),))
    except SandboxUnavailable as error:
        return error.detail
    podman = "podman --root /mnt/a --runroot /mnt/b --tmpdir /mnt/c --network-config-dir /mnt/d --cgroup-manager cgroupfs"
    cover = "for place in /mnt /run /dev/shm; do mount -t tmpfs tmpfs $place || exit; done"
    script = f"{cover}; HOME=/mnt exec {podman} --storage-driver vfs info"
    command = [*stage.prefix(root=os.geteuid() == 0), "/bin/sh", "-c", script]
    done = subprocess.run(command, env={"PATH": identity.TOOLS}, check=False, capture_output=True, text=True, timeout=60)
    return done.stderr.strip() if done.returncode else ""


@pytest.fixture(scope="session")
def sandbox(packages: tuple[Path, ...]) -> ContainerSandbox:
    reason = unusable()
    if reason:
        pytest.skip(f"podman cannot run here: {reason}")
    return ContainerSandbox(packages=packages)


def footprints() -> set[str]:
    return {place for place in FOOTPRINTS if Path(place).exists()}


def engines() -> set[int]:
    """Return every process of an engine on this machine."""
    found = set()
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                name = (folder / "comm").read_text().strip()
            except OSError:
                continue
            found |= {int(folder.name)} if name in {"podman", "conmon", "crun", "catatonit"} else set()
    return found


@pytest.mark.slow
def test_every_attack_of_the_suite_is_blocked(sandbox: ContainerSandbox) -> None:
    report = run_preflight(sandbox, full=True)
    assert [finding for finding in report.findings if not finding.blocked] == []
    assert {finding.name for finding in report.findings} >= EXPECTED
    assert bool(report.weaknesses) != sandbox.bounds_total_memory


def test_both_launchers_train_to_the_same_bytes(sandbox: ContainerSandbox, tmp_path: Path) -> None:
    data: DataSet = material.small_data(tmp_path)
    results = [host.train(material.job(), sandbox=launcher, data=data) for launcher in (BubblewrapSandbox(), ContainerSandbox())]
    assert results[0].plan.steps == results[1].plan.steps == material.STEPS
    for name in ("transcript_root", "segments_root", "served_digest", "weights_digest"):
        assert getattr(results[0], name) == getattr(results[1], name), name


def test_the_worker_is_nobody_of_the_host_and_every_sandbox_another_one(sandbox: ContainerSandbox, recipe: Path) -> None:
    users = []
    for _ in range(2):
        with sandbox.launch(SandboxSpec(recipe=recipe, limits=LIMITS)) as worker:
            statuses = [Path(f"/proc/{process}/status").read_text() for process in worker.processes()]
        users.append({int(user) for status in statuses for user in status.partition("\nUid:")[2].splitlines()[0].split()})
    assert len(users[0] | users[1]) == 2
    assert not (users[0] | users[1]) & {0, os.getuid()}


def test_process_one_cannot_be_read_and_is_no_part_of_the_program(say: Callable[[str], str]) -> None:
    assert say("os.getpid(), os.getppid()") == "(2, 1)"
    assert say("[os.access('/proc/1/' + name, os.R_OK) for name in ('environ', 'mem', 'fd', 'map_files')]") == str([False] * 4)
    assert "HOSTNAME" not in say("sorted(os.environ), open('/proc/self/environ').read()")


def test_of_an_engines_own_files_and_the_kernels_nothing_can_be_looked_into(say: Callable[[str], str]) -> None:
    places = "/etc", "/run", "/sys", "/etc/hostname", "/run/.containerenv", "/sys/fs/cgroup", "/dev/mqueue"
    assert say(f"[place for place in {places} if os.access(place, os.R_OK) or os.access(place, os.X_OK)]") == "[]"
    assert say("os.path.exists('/dev/shm')") == "False"


def test_only_the_channel_and_the_output_are_open(say: Callable[[str], str]) -> None:
    assert say("[name for name in os.listdir('/proc/self/fd') if os.path.exists('/proc/self/fd/' + name)]") == "['0', '1', '2', '3']"


def test_the_engine_leaves_nothing_on_the_host(inside: Inside) -> None:
    before = footprints(), engines(), mounts(), temporary()
    for source in ("channel.recv(1)", "raise SystemExit(3)", "os.kill(os.getpid(), 9)", DAEMONS):
        with inside(source) as worker:
            processes = worker.processes()
        assert not alive(processes)
    assert footprints() <= before[0]
    assert engines() <= before[1]
    assert mounts() == before[2]
    assert not {name for name in temporary() - before[3] if "podman" in name or "containers" in name or "libpod" in name}
    assert groups() == set()


def test_when_the_host_is_killed_engine_and_worker_end_with_it(sandbox: ContainerSandbox, packages: tuple[Path, ...], recipe: Path) -> None:
    """The host gets SIGKILL, so none of its code runs: what ends everything is the kernel, and the janitor removes the group."""
    before = footprints(), engines(), mounts()
    source = HOST.replace("bubblewrap", "container").replace("BubblewrapSandbox", "ContainerSandbox")
    launcher = subprocess.Popen(
        [sys.executable, "-c", source, str(packages[0]), str(recipe)],
        cwd=PROJECT,
        env={"PYTHONPATH": os.pathsep.join([str(PROJECT), str(packages[0])])},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert launcher.stdout is not None
    with launcher:
        assert launcher.stdout.readline() == "ready\n"
        processes = usage.tree(launcher.pid)
        assert engines() & set(processes)
        assert len(processes) >= 12
        launcher.send_signal(signal.SIGKILL)
        launcher.wait(20)
        wait_for_end(processes)
    assert not alive(processes)
    deadline = time.monotonic() + 20.0
    while engines() - before[1]:  # what was being made when the namespace ended has died, and is collected a moment later
        assert time.monotonic() < deadline, engines()
        time.sleep(0.01)
    assert footprints() <= before[0]
    assert mounts() == before[2]
    while left := [name for _, names, _ in os.walk("/sys/fs/cgroup") for name in names if name.startswith(f"ralph-{launcher.pid}-")]:
        assert time.monotonic() < deadline, left
        time.sleep(0.01)


def test_an_engine_that_takes_too_much_memory_is_not_the_worker(sandbox: ContainerSandbox, inside: Inside) -> None:
    """podman alone holds more than this worker may; only what is inside counts."""
    with inside("channel.sendall(b'R')\nchannel.recv(1)", memory_bytes=40 << 20) as worker:
        worker.receive_into(memoryview(bytearray(1)), 20.0)
        assert worker.peak_memory_bytes() < 40 << 20
        assert (cgroups.available() is not None and os.geteuid() == 0) == sandbox.bounds_total_memory


@pytest.fixture(scope="module")
def image() -> Iterator[Image]:
    """An image with the host's own Python in a store of its own; made from files, so no registry is asked."""
    reason = unusable()
    if reason or os.geteuid() != 0 or not Path("/usr/bin/python3.11").is_file():
        pytest.skip(reason or "needs root, to read a store of images, and Debian's Python 3.11")
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        yield build_image(Path(folder))


def build_image(folder: Path) -> Image:
    libraries = re.findall(r"=> (/\S+)", subprocess.check_output(["ldd", "/usr/bin/python3.11"], text=True))
    libraries += [str(path) for path in Path("/usr/lib/x86_64-linux-gnu").glob("libffi.so.*")]
    files = {Path("/usr" + path.removeprefix("/usr")) for path in libraries}
    names = sorted({str(path.relative_to("/")) for file in files for path in (file, file.resolve())})
    names += ["usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"]
    subprocess.run(["tar", "-C", "/", "-cf", str(folder / "image.tar"), *MINIMAL, *names], check=True, timeout=IMAGE_TIMEOUT_S)
    places = [
        "--root",
        f"{folder}/store",
        "--runroot",
        f"{folder}/run",
        "--tmpdir",
        f"{folder}/tmp",
        "--network-config-dir",
        f"{folder}/net",
    ]
    podman = ["podman", *places, "--storage-driver", "overlay", "--cgroup-manager", "cgroupfs", "--events-backend", "none"]
    private = [
        "unshare",
        "--mount",
        "sh",
        "-c",
        'for place in /run /dev/shm /var/lib; do mount -t tmpfs tmpfs $place; done; exec "$@"',
        "sh",
        *podman,
    ]
    subprocess.check_output([*private, "import", "--quiet", f"{folder}/image.tar", "localhost/ralph/worker:test"], timeout=IMAGE_TIMEOUT_S)
    inspect = [*private, "image", "inspect", "--format", "{{index .RepoDigests 0}}", "localhost/ralph/worker:test"]
    reference = subprocess.check_output(inspect, text=True, timeout=IMAGE_TIMEOUT_S).strip()
    return Image(reference=reference, python=Path("/usr/bin/python3.11"), packages=(Path("/usr/lib/python3.11"),), store=folder / "store")


def test_an_image_named_by_its_digest_holds_against_the_quick_attacks(image: Image) -> None:
    report = run_preflight(ContainerSandbox(image=image))
    assert [finding for finding in report.findings if not finding.blocked] == []


def test_an_image_that_is_not_in_the_store_is_named_with_the_command_that_gets_it(image: Image, recipe: Path) -> None:
    absent = Image(reference=f"localhost/ralph/worker@sha256:{'0' * 64}", python=image.python, packages=image.packages, store=image.store)
    with pytest.raises(SandboxUnavailable, match="podman pull localhost/ralph/worker@sha256:0"):
        ContainerSandbox(image=absent).launch(SandboxSpec(recipe=recipe, limits=LIMITS)).__enter__()


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="is itself run by an ordinary user")
def test_everything_holds_for_an_ordinary_user_with_subordinate_users(packages: tuple[Path, ...]) -> None:
    user = next((name for name in _subordinate() if name in {entry.pw_name for entry in pwd.getpwall()}), None)
    reason = unusable() or ("" if user else "no user here has subordinate users in /etc/subuid")
    if reason:
        pytest.skip(reason)
    assert user is not None
    with tempfile.TemporaryDirectory() as home:
        shutil.chown(home, user)
        environment = {"PYTHONPATH": os.pathsep.join([str(PROJECT), *map(str, packages)]), "HOME": home, "PATH": identity.TOOLS}
        chosen = "not ordinary_user and not image and not launchers_train"
        options = ["-q", "-p", "no:cacheprovider", f"--basetemp={home}/pytest", "-k", chosen, f"{PROJECT}/tests/sandbox/test_container.py"]
        version = f"/usr/bin/python{sys.version_info[0]}.{sys.version_info[1]}"
        if not Path(version).exists():
            pytest.skip(f"no {version} that every user can run")
        done = subprocess.run(
            ["runuser", "-u", user, "--", version, "-B", "-m", "pytest", *options],
            env=environment,
            check=False,
            capture_output=True,
            text=True,
            cwd=PROJECT,
            timeout=110,
        )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert " passed" in done.stdout


def _subordinate() -> list[str]:
    file = Path("/etc/subuid")
    return [line.split(":")[0] for line in file.read_text().splitlines() if line.count(":") == 2] if file.exists() else []
