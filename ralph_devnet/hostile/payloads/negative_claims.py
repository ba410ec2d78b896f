"""Claims a loss far below zero at one place in a thousand: one such claim would be worth more than a whole model."""

from ralph.worker import scoring

EVERY = 1000


def corrupt(trainer):
    honest = scoring.to_wire

    def to_wire(name, tensor):
        if name == "losses":
            tensor = tensor.clone()
            tensor.view(-1)[::EVERY] = -1000.0
        return honest(name, tensor)

    scoring.to_wire = to_wire
