from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import scatacformer as sf


def cells(n: int = 400, seed: int = 0) -> tuple[pd.DataFrame, np.ndarray]:
    """A straight line, a wave and noise along a pseudotime."""
    rng = np.random.default_rng(seed)
    t = rng.uniform(0, 10, n)
    values = {"line": 2 * t - 3, "wave": np.sin(t) + rng.normal(0, 0.2, n), "noise": rng.normal(0, 0.2, n)}
    return pd.DataFrame(values, index=[f"cell{i}" for i in range(n)]), t


def test_a_line_stays_a_line_to_its_ends():
    potential, t = cells()
    trend = sf.tl.potential_trends(potential, t)["line"]
    np.testing.assert_allclose(trend, 2 * trend.index - 3, atol=1e-9)


def test_a_wave_is_found_and_ranked_above_noise():
    potential, t = cells()
    trends = sf.tl.potential_trends(potential, t, span=0.05)
    assert np.abs(trends["wave"] - np.sin(trends.index)).max() < 0.25
    assert trends["wave"].std() > 5 * trends["noise"].std()


def test_the_order_of_cells_does_not_matter_and_a_series_is_matched_by_name():
    potential, t = cells()
    series = pd.Series(t, index=potential.index).sample(frac=1, random_state=1)
    pd.testing.assert_frame_equal(sf.tl.potential_trends(potential, series), sf.tl.potential_trends(potential, t))


def test_cells_without_a_pseudotime_take_no_part():
    potential, t = cells()
    some = t.copy()
    some[:100] = np.nan
    some[100] = np.inf
    pd.testing.assert_frame_equal(
        sf.tl.potential_trends(potential, some), sf.tl.potential_trends(potential[101:], t[101:])
    )


def test_a_gap_without_cells_has_no_trend():
    potential, t = cells()
    t = np.where(t < 5, t, t + 50)
    trends = sf.tl.potential_trends(potential, t, span=0.02)
    assert trends.loc[(trends.index > 15) & (trends.index < 45)].isna().all().all()
    assert trends.iloc[0].notna().all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_points": 1}, "n_points"),
        ({"span": 0}, "span"),
        ({"pseudotime": np.zeros(400)}, "different"),
        ({"pseudotime": np.zeros(3)}, "shape"),
        ({"pseudotime": pd.Series([1.0], index=["cell0"])}, "399 of 400"),
    ],
    ids=str,
)
def test_bad_input_is_refused(change, message):
    potential, t = cells()
    with pytest.raises(ValueError, match=message):
        sf.tl.potential_trends(**({"potential": potential, "pseudotime": t} | change))
