"""Options that are not asked for change nothing: the default model draws, holds and learns what it always did."""

from __future__ import annotations

import numpy as np
import pytest

from ._cells import fresh, planted, trained, weights

# sums of absolute values right after the model is made; torch draws the same numbers on every machine
DRAWN = {
    "latent_weight": 6.0,
    "log_frequency": 2396.5858,
    "mean_depth": 1.0,
    "batch_shift": 0.0,
    "local_shift": 0.0,
    "shift_centres": 0.0,
    "shift_width": 1.0,
    "embedding.cls": 0.22910108,
    "embedding.eos": 0.70124584,
    "embedding.pool_weight": 400.0,
    "embedding.norm_weight": 400.0,
    "embedding.eigenvalue": 6.0,
    "embedding.table.weight": 37.246761,
    "embedding.project.weight": 19.046352,
    "embedding.project.bias": 3.5685229,
    "embedding.from_pool.weight": 18.762197,
    "embedding.from_pool.bias": 3.2423857,
    "encoder.blocks.0.norm_1.weight": 16.0,
    "encoder.blocks.0.norm_1.bias": 0.0,
    "encoder.blocks.0.norm_2.weight": 16.0,
    "encoder.blocks.0.norm_2.bias": 0.0,
    "encoder.blocks.0.qkv.weight": 12.585067,
    "encoder.blocks.0.out.weight": 2.5215999,
    "encoder.blocks.0.up.weight": 16.042539,
    "encoder.blocks.0.up.bias": 0.0,
    "encoder.blocks.0.down.weight": 11.765091,
    "encoder.blocks.0.down.bias": 0.0,
    "encoder.norm.weight": 16.0,
    "encoder.norm.bias": 0.0,
    "to_latent.weight": 0.0,
    "decoder.kept_shift": 0.0,
    "decoder.bias.weight": 0.0,
    "decoder.cell_shift.weight": 0.0,
    "decoder.from_cell.weight": 0.0,
    "decoder.from_eos.weight": 0.0,
    "decoder.kept_from_eos.weight": 0.0,
}
# before options there were: loss of the held-out cells by epoch
VALIDATION_LOSS = [2.3734, 2.3053, 2.2899]


def test_the_default_model_draws_the_same_weights():
    found = {name: float(np.abs(value).astype(np.float64).sum()) for name, value in weights(fresh(planted())).items()}
    assert found == pytest.approx(DRAWN, rel=1e-5)


def test_the_default_model_learns_the_same():
    loss = trained(planted()).history["validation_loss"]["validation_loss"]
    np.testing.assert_allclose(loss, VALIDATION_LOSS, rtol=1e-2)
