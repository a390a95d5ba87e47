"""Small networks with nothing left at zero, and minibatches of packed sentences for them."""

from __future__ import annotations

import torch

from scatacformer.nn import NetworkConfig, ScAtacNetwork

N_BINS, N_CHROMS, N_BATCH = 120, 3, 2
# chromosomes interleaved: the order of the bins is not that of the chromosomes
CHROM = torch.arange(N_BINS) % N_CHROMS


def network(decoder: str = "bilinear", seed: int = 0, group=CHROM, readers=None, **changes) -> ScAtacNetwork:
    """What starts at zero or one is drawn, so that every path of the network takes part."""
    sizes = {"d_model": 16, "n_layers": 2, "n_heads": 2, "d_embed": 8, "max_tokens": 64, "d_decoder": 6}
    n_eos = N_CHROMS if readers is None else readers.shape[1]
    config = NetworkConfig(N_BINS, n_eos, N_BATCH, decoder=decoder, **(sizes | changes))
    module = ScAtacNetwork(config, group, seed=seed, readers=readers)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in module.parameters():
            p.add_(torch.randn(p.shape, generator=generator) * 0.2)
        for name in ("pool_weight", "norm_weight"):
            getattr(module.embedding, name).copy_(0.2 + torch.rand(N_BINS, generator=generator))
        module.embedding.eigenvalue.copy_(torch.rand(config.d_embed, generator=generator))
        module.mean_depth.fill_(20.0)
    return module


def sentences(lengths, seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randperm(N_BINS, generator=generator)[:n] for n in lengths]


def packed(cells: list[torch.Tensor], batch=None) -> dict[str, torch.Tensor]:
    """What ``encode`` and ``context`` read; every bin is a token of the encoder too."""
    bins = torch.cat(cells)
    cu = torch.tensor([0, *torch.tensor([len(c) for c in cells]).cumsum(0)], dtype=torch.int32)
    return {
        "bins": bins, "cu_seqlens": cu, "tokens": bins, "token_cu_seqlens": cu,
        "depth": torch.tensor([float(len(c)) for c in cells]),
        "batch": torch.zeros(len(cells), dtype=torch.long) if batch is None else torch.tensor(batch),
    }  # fmt: skip


def embed(module: ScAtacNetwork, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Embedding, and accessibility of all bins."""
    with torch.no_grad():
        cells = module.encode(batch)
        context = module.context(cells, batch["depth"], batch["batch"])
    return cells.z, module.accessibility(context, torch.arange(N_BINS))
