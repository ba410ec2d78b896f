"""Leaves processes behind that are in sessions of their own, ignore all signals and keep computing, and answers honestly itself."""

import os
import signal

COUNT = 4


def corrupt(trainer):
    for _ in range(COUNT):
        if os.fork() == 0:
            os.setsid()
            for number in range(1, 65):
                try:
                    signal.signal(number, signal.SIG_IGN)
                except (OSError, ValueError):
                    pass
            while True:
                pass
