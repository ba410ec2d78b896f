"""A training that outlives its process: everything up to its last boundary is on disk.

``journal`` holds which run it is, its transcript so far and how long the steps took; ``<step>.state`` is the training state
that the transcript ends with. At a boundary the new state is written, then the journal is replaced, then older states are
removed, so that whatever a kill leaves behind is one whole boundary. What was trained after it is trained again.

A run is continued only on the stack that began it: elsewhere the last bits may differ, and nothing would say so.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ralph.errors import ConfigurationError, CorruptStateError, InfrastructureError, UntrustedInputError
from ralph.protocol.canonical import envelope, open_envelope
from ralph.store.files import replace_file
from ralph.train.plan import Plan
from ralph.train.segments import Boundary
from ralph.train.transcript import MAX_BYTES, TranscriptWriter

TAG = "recipe-net/run-journal/v1"
JOURNAL = "journal"
MAX_JOURNAL_BYTES = 2 * MAX_BYTES

Identity = dict[str, str]
"""Name -> value of everything that a run depends on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """What an earlier process left: a run up to its last boundary."""

    writer: TranscriptWriter
    microseconds: tuple[int, ...]
    boundary: Boundary


class Journal:
    """The journal of one run in a directory of its own. Also a StateSink.

    Args:
        directory: Made when it is not there.
        identity: What the run depends on; a journal of another run is never continued.
    """

    def __init__(self, directory: Path, identity: Identity) -> None:
        self.directory, self.identity = directory, identity
        self._path = directory / JOURNAL

    @property
    def exists(self) -> bool:
        """Return whether an unfinished run is here."""
        return self._path.exists()

    def past(self, plan: Plan) -> Past | None:
        """Return what is here; None when nothing was kept yet.

        Raises:
            ConfigurationError: The journal of another run, or of another stack.
            CorruptStateError: A journal or a state that is damaged or gone.
            InfrastructureError: The disk does not answer.
        """
        if not self.exists:
            return None
        try:
            value = open_envelope(TAG, self._path.read_bytes(), limit=MAX_JOURNAL_BYTES)
            self._same_run(value["identity"])
            writer = TranscriptWriter.continued(value["transcript"], plan)
            step = max(writer.boundaries)
            state = self._state(step).read_bytes()
            return Past(
                writer=writer,
                microseconds=tuple(value["microseconds"]),
                boundary=Boundary(step=step, digest=writer.boundaries[step], data=state),
            )
        except (UntrustedInputError, KeyError, TypeError, FileNotFoundError) as error:
            detail = f"{self._path} is damaged ({error}); move {self.directory} away and start the run again"
            raise CorruptStateError(detail) from error
        except OSError as error:
            raise InfrastructureError(f"{self.directory} cannot be read: {error}") from error

    def keep(self, boundary: Boundary) -> None:
        """Write the state of a boundary; the journal still names the one before it. Step 0 is not worth a file."""
        if boundary.step > 0:
            replace_file(self._state(boundary.step), boundary.data)

    def advance(self, writer: TranscriptWriter, microseconds: Sequence[int]) -> None:
        """Let the journal name the newest boundary, and forget the older states."""
        value = {"identity": self.identity, "transcript": writer.to_bytes(), "microseconds": list(microseconds)}
        replace_file(self._path, envelope(TAG, value))
        newest = self._state(max(writer.boundaries))
        for path in self.directory.glob("*.state"):
            if path != newest:
                path.unlink()

    def remove(self) -> None:
        """Forget an unfinished run, or one whose results have been written."""
        self._path.unlink(missing_ok=True)
        for path in self.directory.glob("*.state"):
            path.unlink()

    def _state(self, step: int) -> Path:
        return self.directory / f"{step}.state"

    def _same_run(self, found: Identity) -> None:
        for name, value in self.identity.items():
            if found.get(name) != value:
                detail = f"{self.directory} holds a run with {name} {found.get(name)}, this one has {value}"
                raise ConfigurationError(f"{detail}; give another --out, or remove that directory")
