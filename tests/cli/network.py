"""A development network made by `ralph init`, over a small corpus, and the command as a process."""

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ralph.data.corpora import stdlib_documents
from ralph.data.prepare import prepare

ENTRY = (sys.executable, "-c", "import sys; from ralph.cli.main import app; app(sys.argv[1:])")


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """A finished command."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def ralph(*words: object, prefix: Sequence[str] = (), stdin: str = "", environment: Mapping[str, str] | None = None) -> Done:
    """Run the command in a process of its own."""
    command = [*prefix, *ENTRY, *map(str, words)]
    everything = {**os.environ, **(environment or {})}
    done = subprocess.run(command, capture_output=True, text=True, input=stdin, timeout=110, check=False, env=everything)
    return Done(status=done.returncode, out=done.stdout, err=done.stderr)


def prepare_small(directory: Path) -> Path:
    """Prepare a small corpus."""
    documents = list(itertools.islice(stdlib_documents(), 500))
    prepare(directory / "public", hidden=directory / "hidden", vocabulary=300, documents=documents)
    return directory
