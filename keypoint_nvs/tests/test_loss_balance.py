"""Weighing of the terms, and the running sizes that live in the model."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from keypoint_nvs.losses.balance import LossBalance
from posecore.losses import Term

NAMES = ("nvs", "localisation", "point")


def terms_of(values: dict[str, float], count: float = 1.0) -> dict[str, Term]:
    return {name: Term(torch.tensor(value * count), torch.tensor(count)) for name, value in values.items()}


def test_fixed_weights_add_up_and_each_is_given_raw_and_weighed():
    losses = terms_of({"nvs": 0.5, "localisation": 0.01})
    found = LossBalance(NAMES).weigh(losses, {"nvs": 1.0, "localisation": 100.0}, None, 0)
    assert {name: round(float(value), 6) for name, value in found.items()} == {
        "nvs": 0.5,
        "localisation": 0.01,
        "weighted/nvs": 0.5,
        "weighted/localisation": 1.0,
        "total": 1.5,
    }


@given(sizes=st.lists(st.floats(1e-4, 10), min_size=3, max_size=6), decay=st.floats(0.1, 0.99))
def test_the_running_size_is_the_unbiased_weighed_mean_of_the_steps_before(sizes, decay):
    balance = LossBalance(NAMES, "ema", decay)
    for step, size in enumerate(sizes):
        found = balance.weigh(
            terms_of({"nvs": 1.0, "localisation": size}), {"nvs": 1.0, "localisation": 2.0}, None, step
        )
    shares = [decay ** (len(sizes) - 2 - i) for i in range(len(sizes) - 1)]
    mean = sum(w * s for w, s in zip(shares, sizes, strict=False)) / sum(shares)
    assert float(found["weighted/localisation"]) == pytest.approx(2.0 * sizes[-1] / mean, rel=1e-4)


def test_with_ema_a_term_of_any_size_counts_as_much_as_nvs_from_its_second_step_on():
    balance = LossBalance(NAMES, "ema")
    weights = dict.fromkeys(NAMES, 1.0)
    losses = {"nvs": 0.05, "localisation": 2e-8}
    first = balance.weigh(terms_of(losses), weights, None, 0)
    assert float(first["weighted/localisation"]) == 0
    assert float(first["total"]) == pytest.approx(0.05)
    second = balance.weigh(terms_of(losses), weights, None, 1)
    assert float(second["weighted/localisation"]) == pytest.approx(0.05, rel=1e-4)
    late = balance.weigh(terms_of(losses | {"point": 30.0}), weights, None, 2)
    assert float(late["weighted/point"]) == 0
    later = balance.weigh(terms_of(losses | {"point": 30.0}), weights, None, 3)
    assert float(later["weighted/point"]) == pytest.approx(0.05, rel=1e-4)


def test_the_gradient_does_not_pass_through_the_running_sizes_and_survives_their_next_move():
    balance = LossBalance(NAMES, "ema")
    weights = dict.fromkeys(NAMES, 1.0)
    balance.weigh(terms_of({"nvs": 0.1, "localisation": 4.0}), weights, None, 0)
    x = torch.tensor(3.0, requires_grad=True)
    losses = terms_of({"nvs": 0.1}) | {"localisation": Term(x**2, torch.tensor(1.0))}
    found = balance.weigh(losses, weights, None, 1)
    balance.weigh(terms_of({"nvs": 5.0, "localisation": 1.0}), weights, None, 2)
    found["total"].backward()
    assert float(x.grad) == pytest.approx(6.0 * 0.1 / 4.0, rel=1e-5)


def test_accumulated_steps_move_the_running_sizes_as_whole_steps_do():
    whole, split = LossBalance(NAMES, "ema", 0.9), LossBalance(NAMES, "ema", 0.9)
    weights = dict.fromkeys(NAMES, 1.0)
    generator = torch.Generator().manual_seed(0)
    for step in range(5):
        errors = torch.rand(2, 8, generator=generator)
        counts = {"nvs": torch.tensor(8.0), "localisation": torch.tensor(8.0)}

        def terms(part: slice, errors: torch.Tensor = errors) -> dict[str, Term]:
            pairs = zip(("nvs", "localisation"), errors[:, part], strict=True)
            return {name: Term(values.sum(), torch.tensor(float(len(values)))) for name, values in pairs}

        one = whole.weigh(terms(slice(None)), weights, counts, step)
        parts = [split.weigh(terms(slice(i, i + 2)), weights, counts, step) for i in range(0, 8, 2)]
        for name, value in one.items():
            torch.testing.assert_close(torch.stack([part[name] for part in parts]).sum(), value)


def test_the_state_is_saved_and_a_resumed_balance_goes_on_as_if_nothing_had_happened():
    weights = dict.fromkeys(NAMES, 1.0)
    straight, saved = LossBalance(NAMES, "ema"), LossBalance(NAMES, "ema")
    for step in range(4):
        losses = terms_of({"nvs": 1.0 + step, "localisation": 0.1 * step + 0.1})
        straight.weigh(losses, weights, None, step)
        saved.weigh(losses, weights, None, step)
        resumed = LossBalance(NAMES, "ema")
        resumed.load_state_dict(saved.state_dict())
        saved = resumed
    losses = terms_of({"nvs": 2.0, "localisation": 0.3})
    one, other = (b.weigh(losses, weights, None, 4)["total"] for b in (straight, saved))
    assert float(one) == float(other)


def test_validation_weighs_with_the_running_sizes_and_leaves_them():
    balance = LossBalance(NAMES, "ema")
    weights = dict.fromkeys(NAMES, 1.0)
    for step in range(2):
        balance.weigh(terms_of({"nvs": 0.1, "localisation": 4.0}), weights, None, step)
    before = {name: value.clone() for name, value in balance.state_dict().items()}
    found = balance.weigh(terms_of({"nvs": 0.2, "localisation": 8.0}), weights, None, None)
    assert float(found["weighted/localisation"]) == pytest.approx(0.2, rel=1e-5)
    assert all(torch.equal(value, before[name]) for name, value in balance.state_dict().items())


def test_wrong_terms_are_refused():
    with pytest.raises(ValueError, match="balance ema needs the term 'nvs', the terms are localisation"):
        LossBalance(("localisation",), "ema")
    with pytest.raises(ValueError, match="no term 'heat' was told to the balance"):
        LossBalance(NAMES).weigh(terms_of({"heat": 1.0}), {"heat": 1.0}, None, 0)
    with pytest.raises(ValueError, match="no loss term has a weight"):
        LossBalance(NAMES).weigh(terms_of({"nvs": 1.0}), {}, None, 0)
