"""A genome in thousands of scaffolds: few ``<eos>``, saved and loaded alike."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp

import scatacformer as sf


def test_small_scaffolds_share_an_eos(tmp_path):
    rng = np.random.default_rng(0)
    names = [f"scaffold_{k}:{start}-{start + 5000}" for k in range(400) for start in (0, 5000)]
    X = sp.csr_matrix((rng.random((30, len(names))) < 0.1).astype(np.float32))
    adata = ad.AnnData(X, var=pd.DataFrame(index=names))
    sf.ScAtacFormer.setup_anndata(adata)
    model = sf.ScAtacFormer(adata, n_layers=1, d_model=32, n_heads=2)
    assert len(model.eos_names_) == model.config_.n_eos <= 64
    assert len(set(model.eos_names_)) == len(model.eos_names_)
    model.train(max_epochs=1, accelerator="cpu", enable_progress_bar=False)
    model.save(tmp_path / "model")
    again = sf.ScAtacFormer.load(tmp_path / "model", adata)
    assert again.eos_names_ == model.eos_names_
    assert np.array_equal(again.get_latent_representation(), model.get_latent_representation())
