"""Which tokens the steps of a run choose: the most voted ones are kept."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn


class RunningVotes(nn.Module):
    """Lives in the model, so that checkpoints keep it. Each sample gives its chosen tokens one vote each.

    Old votes fade: those of n samples ago count (1 - 1 / memory)^n, so about the last `memory` samples matter. The votes
    of a step, over all micro-batches and processes, count alike, so accumulated and distributed steps equal the step on
    the whole batch. Nothing waits for the device but `kept`.
    """

    averages_buffers = False
    """A moving average of the weights (posecore) keeps these votes as they are."""

    votes: Float[Tensor, " n"]
    pending: Float[Tensor, " n"]
    pending_samples: Float[Tensor, ""]
    last_step: Int64[Tensor, ""]

    def __init__(self, num_tokens: int, memory: int | None) -> None:
        """`memory`: samples, at least 1; None: nothing fades."""
        super().__init__()
        if memory is not None and memory < 1:
            raise ValueError(f"memory: {memory} samples; give at least 1, or None")
        self.decay = 1.0 if memory is None else 1 - 1 / memory
        self.register_buffer("votes", torch.zeros(num_tokens))
        self.register_buffer("pending", torch.zeros(num_tokens))
        self.register_buffer("pending_samples", torch.tensor(0.0))
        self.register_buffer("last_step", torch.tensor(-1))

    @torch.no_grad()
    def add(self, selected: Int64[Tensor, "b k"], step: int) -> None:
        """Note the tokens of a micro-batch of a step. All processes must call it equally often."""
        is_new = self.last_step != step
        self.votes.copy_(torch.where(is_new, self._faded(), self.votes))
        tokens = torch.arange(len(self.votes), device=selected.device)
        counts = (selected.reshape(-1, 1) == tokens).sum(0).to(self.votes)
        here = torch.cat([counts, counts.new_tensor([float(len(selected))])])
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(here)
        self.pending.copy_(torch.where(is_new, 0, self.pending) + here[:-1])
        self.pending_samples.copy_(torch.where(is_new, 0, self.pending_samples) + here[-1])
        self.last_step.fill_(step)

    def kept(self, k: int) -> Int64[Tensor, " k"]:
        """The k tokens with most votes, those of the newest step included; most first, ties to the smaller index.

        Raises:
            ValueError: Fewer than k tokens were ever chosen.
        """
        votes = self._faded()
        chosen = int((votes > 0).sum())
        if chosen < k:
            raise ValueError(f"{k} tokens are to be kept, but only {chosen} of {len(votes)} have votes")
        return votes.argsort(descending=True, stable=True)[:k]

    def _faded(self) -> Float[Tensor, " n"]:
        """Votes after the newest step."""
        return self.votes * self.decay**self.pending_samples + self.pending
