"""Rows in batches: little padding where only choices are weighed."""

from hypothesis import given
from hypothesis import strategies as st

from icl_harness.models.local.row_batches import BUSY, PADDED, _n_alike
from icl_harness.models.local.tokens import Branch, Twig


@given(lengths=st.lists(st.integers(1, 300), min_size=1, max_size=80).map(sorted))
def test_a_batch_keeps_a_cpu_busy_and_is_padded_little_beyond_that(lengths) -> None:
    twigs = [Twig.chain(Branch(0, [1] * length)) for length in lengths]
    n = _n_alike(twigs, len(twigs))
    assert 1 <= n <= len(twigs)
    fed, own = n * lengths[n - 1], sum(lengths[:n])
    assert n == 1 or fed <= BUSY or fed <= PADDED * own
    if n < len(twigs):
        more = (n + 1) * lengths[n]
        assert more > BUSY
        assert more > PADDED * sum(lengths[: n + 1])
