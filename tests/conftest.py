"""What every test may rely on: a home of its own, one thread, and no skip that nobody noticed."""

import os
import shutil
import tempfile
from collections.abc import Generator

import pytest

NEEDS_MORE = ("gpu", "online", "chain", "podman")
"""Markers of tests that this machine may be unable to run. Everything else runs or fails."""

KEPT = ("RALPH_TEST_DATA", "RALPH_TEST_CHAIN_URL")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--forbid-skips", action="store_true", help=f"fail a skipped test unless it is marked {', '.join(NEEDS_MORE)}")


def pytest_configure(config: pytest.Config) -> None:
    """Point everything that reads a home directory at an empty one, before any test module is imported."""
    patch = pytest.MonkeyPatch()
    home = tempfile.mkdtemp(prefix="ralph-tests-home-")
    config.add_cleanup(lambda: shutil.rmtree(home, ignore_errors=True))
    config.add_cleanup(patch.undo)
    for name in list(os.environ):
        if name.startswith(("XDG_", "GIT_", "BT_")) or (name.startswith("RALPH_") and name not in KEPT):
            patch.delenv(name)
    patch.setenv("HOME", home)
    patch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    patch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    patch.setenv("OMP_NUM_THREADS", "1")
    patch.setenv("MPLBACKEND", "Agg")
    patch.setenv("NO_COLOR", "1")
    patch.setenv("TERM", "dumb")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the slow ones, so that no core waits for them at the end."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    expected = hasattr(report, "wasxfail") or any(item.get_closest_marker(name) for name in NEEDS_MORE)
    if report.skipped and not expected and item.config.getoption("forbid_skips"):
        _fail(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    if report.skipped and collector.config.getoption("forbid_skips"):
        _fail(report)
    return report


def _fail(report: pytest.TestReport | pytest.CollectReport) -> None:
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    report.outcome = "failed"
    report.longrepr = f"skips are forbidden here: {reason}"
