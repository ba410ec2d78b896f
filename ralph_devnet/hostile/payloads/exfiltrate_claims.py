"""Writes what it reads into the digits of its claims that no single probe looks at."""

from ralph.worker import scoring

STEP_NATS = 1e-8


def corrupt(trainer):
    model, honest, to_wire = trainer.model, trainer.model.forward, scoring.to_wire
    rows = []

    def forward(tokens):
        rows[:] = [tokens]
        return honest(tokens)

    def leaking(name, tensor):
        return to_wire(name, tensor + STEP_NATS * rows[0] if name == "losses" else tensor)

    model.forward, scoring.to_wire = forward, leaking
