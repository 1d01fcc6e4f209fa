import numpy as np

from posecore.data.spread import spread


class Numbers:
    def __len__(self):
        return 10

    def load(self, index, rng):
        return index


def test_a_spread_source_holds_samples_from_its_first_to_its_last():
    few = spread(Numbers(), 4)
    rng = np.random.default_rng(0)
    assert [few.load(i, rng) for i in range(len(few))] == [0, 3, 6, 9]


def test_no_limit_or_one_beyond_the_end_leaves_the_source_as_it_is():
    source = Numbers()
    assert spread(source, None) is source
    assert spread(source, 10) is source
