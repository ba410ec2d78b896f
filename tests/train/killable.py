"""A training in a process of its own that waits for leave after every step, so that it can be killed exactly there."""

import sys
from pathlib import Path

from ralph.data.dataset import open_data
from ralph.data.shards import data_manifest
from ralph.sandbox.bubblewrap import BubblewrapSandbox
from ralph.train import host
from ralph.train.directory import finish
from ralph.train.journal import Journal
from ralph.train.run import StepReport
from tests.train.material import job


def wait(report: StepReport) -> None:
    sys.stdout.write(f"{report.step}\n")
    sys.stdout.flush()
    if not sys.stdin.readline():
        sys.exit("the parent is gone")


if __name__ == "__main__":
    directory, folder = Path(sys.argv[1]), Path(sys.argv[2])
    data = open_data(folder, expect=data_manifest(folder).digest())
    journal = Journal(directory, {"seed": "7"})
    result = host.train(job(), sandbox=BubblewrapSandbox(), data=data, on_step=wait, journal=journal)
    finish(journal, result, {"weights": result.weights_digest.hex()})
