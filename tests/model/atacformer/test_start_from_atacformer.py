from __future__ import annotations

import numpy as np
import pytest
import torch

import scatacformer as sf

from ._checkpoints import N_REGIONS, bins, overlapped, planted, regions

SIZES = {"d_model": 16, "n_layers": 1, "n_heads": 2, "d_embed": 4, "max_tokens": 32}
TRAINING = {
    "max_epochs": 2,
    "batch_size": 16,
    "sentence_kwargs": {"n_closed": 64},
    "accelerator": "cpu",
    "enable_progress_bar": False,
}


def scatacformer(adata):
    adata = adata.copy()
    sf.ScAtacFormer.setup_anndata(adata)
    return sf.ScAtacFormer(adata, seed=0, **SIZES)


def separation(z, adata):
    kind = adata.obs["type"].cat.codes.to_numpy()
    return np.linalg.norm(z[kind == 0].mean(0) - z[kind == 1].mean(0)) / np.sqrt(
        np.mean([z[kind == k].var(0).sum() for k in (0, 1)])
    )


def test_region_vectors_start_the_bins_of_our_model():
    adata = planted(80, mean=60)
    adata = adata[:, adata.var["chrom"] != "chr7"].copy()
    universe = regions()
    side = torch.tensor([hit[0] // 20 % 2 for hit in overlapped(universe, bins())]) * 2.0 - 1.0
    config = sf.nn.AtacformerConfig(N_REGIONS + 7, 16, 32, 1, 2, 80)
    atacformer = sf.Atacformer(vocabulary=sf.Vocabulary.from_var(universe), config=config)
    with torch.no_grad():
        atacformer.module.embeddings.token_embeddings.weight[:N_REGIONS, 0] += 0.1 * side
    model = scatacformer(adata)
    vectors = atacformer.bin_vectors(model)
    assert np.isnan(vectors).any()
    model.train(bin_vectors=vectors, **TRAINING)
    found = separation(model.get_latent_representation(), adata)
    uncovered = torch.from_numpy(np.isnan(vectors).any(1))
    assert not model.module.embedding.pool_weight[uncovered].any()
    other = scatacformer(adata)
    other.train(bin_vectors=np.random.default_rng(0).permutation(vectors), **TRAINING)
    # any vectors tell types apart that differ as much as these; those of the regions do it better
    assert found > 2 * separation(other.get_latent_representation(), adata)
    with pytest.raises(ValueError, match="this one is trained"):
        model.train(bin_vectors=vectors, **TRAINING)
    with pytest.raises(ValueError, match="bin_vectors has shape .* expected a vector for each of"):
        scatacformer(adata).train(bin_vectors=vectors[1:], **TRAINING)
