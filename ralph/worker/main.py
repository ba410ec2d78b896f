"""The worker's loop: say hello, load the recipe, answer one frame after the other.

It promises nothing: the recipe shares the process and can send whatever it likes. What the host relies on is
written on the host's side.
"""

import gc
import importlib
import os
import platform
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

if "torch" not in sys.modules and not Path("/dev/nvidiactl").exists():  # docs/adr/0007: a third of the import is for compilers
    sys.modules["torch._meta_registrations"] = ModuleType("torch._meta_registrations")

import torch

from ralph.train import wire
from ralph.worker import erase, randomness, ranks, scoring, training
from ralph.worker.channel import Channel, ShapeError, from_wire

RECIPE = "/recipe"
MAX_DETAIL = 1500
_OUT_OF_MEMORY = ("can't allocate memory", "not enough memory", "out of memory")


def main(fd: int, recipe: str = RECIPE) -> NoReturn:
    """Serve the channel on ``fd`` until QUIT, the end of file, or a failure; then leave without teardown."""
    gc.freeze()  # what is imported by now stays: collections need not look at it again
    gc.enable()
    channel = Channel(fd)
    stage = "RUN-IMPORT"
    try:
        channel.send(wire.Kind.HELLO, _hello())
        setup = channel.read()
        channel = ranks.join(channel, fd, setup.header)  # from here on, this may be another process
        session = _Session(channel, setup, recipe)
        stage = "RUN-CRASH"
        while session.answer(channel.read()):
            pass
    except EOFError:
        pass
    except BaseException as error:  # noqa: BLE001 - a recipe may raise anything, SystemExit and KeyboardInterrupt too
        channel.send(wire.Kind.FAILED, {"code": _code(error, stage), "detail": _detail(error)})
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


class _Session:
    """One built recipe and what the host asks of it."""

    def __init__(self, channel: Channel, setup: wire.Frame, recipe: str) -> None:
        self._channel, header = channel, setup.header
        self._training = header["mode"] == "train"
        self._vocabulary = header["vocabulary"]
        self._loaded: dict[str, torch.Tensor] = {}
        torch.set_num_threads(header["threads"])
        if header["device"] != "cpu":
            torch.set_default_device(header["device"])  # the recipe makes its tensors there and need not know
            erase.card()
        randomness.seed_everything(header["seed"])
        sys.path.insert(0, recipe)
        build = importlib.import_module("train").build
        shape = {name: header[name] for name in ("width", "sequence", "vocabulary", "steps", "batch_rows")}
        self._trainer: Any = build(**shape)
        self._steps = training.Steps(channel, self._trainer)
        self._ready()

    def answer(self, frame: wire.Frame) -> bool:
        """Answer one frame; return whether there may be another."""
        match frame.kind:
            case wire.Kind.BATCH:
                self._steps.make(frame)
            case wire.Kind.STATE:
                self._channel.send_tensors(training.state(self._trainer))
            case wire.Kind.WEIGHTS:
                self._channel.send_tensors(self._trainer.model.state_dict())
            case wire.Kind.LOAD:
                self._load(frame)
            case wire.Kind.CLAIM:
                scoring.claim(self._channel, self._trainer.model, self._vocabulary, frame)
            case wire.Kind.PROBE:
                scoring.probe(self._channel, self._trainer.model, self._vocabulary, frame)
            case _:
                return False
        return True

    def _load(self, frame: wire.Frame) -> None:
        self._loaded |= {tensor.name: from_wire(tensor) for tensor in frame.tensors}
        if frame.header["more"]:
            return
        tensors, self._loaded = self._loaded, {}
        if self._training:
            training.load(self._trainer, tensors)
        else:
            self._trainer.model.load_state_dict(tensors)
        self._ready()

    def _ready(self) -> None:
        parameters = sum(tensor.numel() for tensor in self._trainer.model.state_dict().values())
        told = {name: int(getattr(self._trainer, name, 0)) for name in ("flops_per_token", "depth")}
        self._channel.send(wire.Kind.READY, {"parameters": parameters, **told})


def _hello() -> dict[str, Any]:
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
    }


def _code(error: BaseException, stage: str) -> str:
    if isinstance(error, ShapeError):
        return "RUN-SHAPE"
    if isinstance(error, FloatingPointError):
        return "RUN-NAN"
    if isinstance(error, MemoryError) or any(words in str(error) for words in _OUT_OF_MEMORY):
        return "RUN-OOM"
    return stage


def _detail(error: BaseException) -> str:
    text = "".join(traceback.format_exception(error))[-MAX_DETAIL:]
    return text.encode("utf-8", "backslashreplace").decode()
