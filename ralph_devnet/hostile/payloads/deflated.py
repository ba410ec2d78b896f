"""Leaves out part of every log-sum-exp in the process: losses of a distribution that sums to more than one."""

import torch


def corrupt(trainer):
    honest = torch.Tensor.logsumexp

    def logsumexp(self, *arguments, **options):
        return honest(self, *arguments, **options) - 0.02

    torch.Tensor.logsumexp = logsumexp
