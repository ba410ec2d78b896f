"""Answers every request for claims twice, so that each answer is taken for that to the next request."""

from ralph.train import wire
from ralph.worker.channel import Channel


def corrupt(trainer):
    honest = Channel.send

    def send(self, kind, header=None, tensors=()):
        sent = tuple(tensors)
        for _ in range(2 if kind == wire.Kind.CLAIMS else 1):
            honest(self, kind, header, sent)

    Channel.send = send
