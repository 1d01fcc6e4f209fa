"""Votes for tokens over a run."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from keypoint_nvs.model.running_votes import RunningVotes
from posecore.training.ema import MovingAverage

selections = st.lists(st.permutations(range(6)).map(lambda order: order[:3]), min_size=1, max_size=12)


def test_without_forgetting_the_kept_tokens_are_those_of_upstream(reference):
    arrays = reference("sk_voting")
    votes = RunningVotes(16, memory=None)
    for step, chosen in enumerate(torch.from_numpy(arrays["per_image_selected"])):
        votes.add(chosen[None], step)
    assert votes.kept(int(arrays["k"])).tolist() == arrays["chosen"].tolist()
    assert (votes.votes + votes.pending).tolist() == arrays["votes"].tolist()


@given(chosen=selections, parts=st.integers(1, 4))
def test_accumulated_votes_equal_those_of_whole_steps(chosen, parts):
    whole, split = RunningVotes(6, memory=5), RunningVotes(6, memory=5)
    for step in range(3):
        tokens = torch.tensor(chosen)
        whole.add(tokens, step)
        for part in tokens.tensor_split(min(parts, len(tokens))):
            split.add(part, step)
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(split.state_dict()[name], value)
    assert split.kept(3).tolist() == whole.kept(3).tolist()


@given(chosen=selections)
def test_one_sample_a_step_fades_by_one_part_in_memory(chosen):
    votes = RunningVotes(6, memory=4)
    expected = torch.zeros(6)
    for step, tokens in enumerate(chosen):
        votes.add(torch.tensor([tokens]), step)
        expected = expected * 0.75
        expected[list(tokens)] += 1
    torch.testing.assert_close(votes.votes * votes.decay**votes.pending_samples + votes.pending, expected)


def test_what_was_chosen_long_ago_gives_way():
    votes = RunningVotes(8, memory=20)
    for step in range(200):
        votes.add(torch.tensor([[1, 2]]), step)
    for step in range(200, 240):
        votes.add(torch.tensor([[5, 6]]), step)
    assert votes.kept(2).tolist() == [5, 6]


def test_ties_go_to_the_smaller_index():
    votes = RunningVotes(8, memory=100)
    votes.add(torch.tensor([[7, 3], [3, 5], [1, 6]]), 0)
    assert votes.kept(4).tolist() == [3, 1, 5, 6]


def test_a_resumed_run_goes_on_as_if_nothing_had_happened():
    votes = RunningVotes(6, memory=3)
    votes.add(torch.tensor([[0, 1], [0, 2]]), 0)
    resumed = RunningVotes(6, memory=3)
    resumed.load_state_dict(votes.state_dict())
    for one in (votes, resumed):
        one.add(torch.tensor([[4, 5]]), 0)
        one.add(torch.tensor([[4, 3]]), 1)
    assert resumed.kept(4).tolist() == votes.kept(4).tolist()
    torch.testing.assert_close(resumed.state_dict(), votes.state_dict())


def test_tokens_without_votes_are_not_kept():
    votes = RunningVotes(6, memory=3)
    with pytest.raises(ValueError, match="2 tokens are to be kept, but only 0 of 6 have votes"):
        votes.kept(2)
    with pytest.raises(ValueError, match="memory: 0 samples"):
        RunningVotes(6, memory=0)


def test_averaged_weights_keep_the_tokens_that_the_run_keeps():
    votes = RunningVotes(6, memory=4)
    model = nn.ModuleDict({"network": nn.Linear(1, 1), "votes": votes})
    average = MovingAverage(model, 0.999)
    for step in range(30):
        votes.add(torch.tensor([[0, 1, 2]] if step < 27 else [[3, 4, 5]]), step)
        average.update(model)
    assert votes.kept(3).tolist() == [3, 4, 5]
    with average.swapped_in(model):
        assert votes.kept(3).tolist() == [3, 4, 5]
