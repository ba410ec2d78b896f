"""Begins to answer and sends a byte now and then."""

import os
import time


def corrupt(trainer):
    os.write(3, (1000).to_bytes(4, "little"))
    while True:
        os.write(3, b"\x00")
        time.sleep(0.5)
