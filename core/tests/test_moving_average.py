"""What a moving average of a model's weights averages, and what it copies."""

import torch
from torch import nn

from posecore.training.ema import MovingAverage


class Counts(nn.Module):
    averages_buffers = False

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.register_buffer("seen", torch.tensor(0.0))


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.BatchNorm1d(1)
        self.counts = Counts()


def test_records_of_the_run_are_copied_and_running_statistics_averaged():
    model = Model()
    average = MovingAverage(model, 0.5)
    for buffer in (model.counts.seen, model.layer.running_mean, model.layer.num_batches_tracked):
        buffer.fill_(10)
    average.update(model)
    assert average.averages["counts.seen"] == 10
    assert average.averages["layer.num_batches_tracked"] == 10
    torch.testing.assert_close(
        average.averages["layer.running_mean"], torch.tensor([9.0])
    )  # d of the first step is 0.1
    model.counts.seen.fill_(20)
    with average.swapped_in(model):
        assert model.counts.seen == 10
    assert model.counts.seen == 20


def test_a_record_at_the_top_is_copied_too():
    counts = Counts()
    average = MovingAverage(counts, 0.5)
    counts.seen.fill_(3)
    average.update(counts)
    assert average.averages["seen"] == 3
