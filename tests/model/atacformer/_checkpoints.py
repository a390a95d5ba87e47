"""Checkpoints laid out as databio's, made here with random weights, and a reader of them in plain torch."""

from __future__ import annotations

import gzip
import json

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from safetensors.torch import load_file, save_file
from torch import nn

N_REGIONS, HIDDEN, WIDE, LAYERS, HEADS, CONTEXT = 240, 24, 48, 2, 4, 80
ENCODER = {
    "embeddings.token_embeddings.weight": ("V", "H"),
    "embeddings.position_embeddings.weight": ("P", "H"),
    **{
        f"encoder.layers.{i}.{name}": shape
        for i in range(LAYERS)
        for name, shape in {
            "self_attn.in_proj_weight": ("3H", "H"), "self_attn.in_proj_bias": ("3H",),
            "self_attn.out_proj.weight": ("H", "H"), "self_attn.out_proj.bias": ("H",),
            "linear1.weight": ("F", "H"), "linear1.bias": ("F",), "linear2.weight": ("H", "F"), "linear2.bias": ("H",),
            "norm1.weight": ("H",), "norm1.bias": ("H",), "norm2.weight": ("H",), "norm2.bias": ("H",),
        }.items()
    },
}  # fmt: skip
HEAD = {
    "discriminator.dense.weight": ("H", "H"), "discriminator.dense.bias": ("H",),
    "discriminator.norm.weight": ("H",), "discriminator.norm.bias": ("H",),
    "discriminator.classifier.weight": ("1", "H"), "discriminator.classifier.bias": ("1",),
}  # fmt: skip
SIZE = {"V": N_REGIONS + 7, "H": HIDDEN, "3H": 3 * HIDDEN, "F": WIDE, "P": CONTEXT, "1": 1}


def regions(n=N_REGIONS, seed=0) -> pd.DataFrame:
    """Regions of all widths, with gaps, on three chromosomes; in no order."""
    rng = np.random.default_rng(seed)
    chrom = np.repeat(["chr1", "chr2", "chrX"], [n // 2, n // 4, n - n // 2 - n // 4])
    rank = np.concatenate([np.arange((chrom == c).sum()) for c in ("chr1", "chr2", "chrX")])
    start = rank * 1_000 + rng.integers(0, 300, n)
    table = pd.DataFrame({"chrom": chrom, "start": start, "end": start + rng.integers(50, 600, n)})
    return table.sample(frac=1, random_state=seed).reset_index(drop=True)


def config(**changes) -> dict:
    return {
        "architectures": ["AtacformerForReplacedTokenDetection"], "model_type": "atacformer", "vocab_size": SIZE["V"],
        "hidden_size": HIDDEN, "intermediate_size": WIDE, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
        "max_position_embeddings": CONTEXT, "use_pos_embeddings": False, "pad_token_id": N_REGIONS + 1,
        "norm_eps": 1e-5, "torch_dtype": "float32", "transformers_version": "4.57.6",
    } | changes  # fmt: skip


def tensors(prefix="atacformer.", head=True, seed=0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    names = {prefix + name: shape for name, shape in ENCODER.items()} | (HEAD if head else {})
    out = {}
    for name, shape in names.items():
        x = torch.randn([SIZE[s] for s in shape], generator=generator)
        scale = 1.0 if "embeddings" in name else 0.15
        out[name] = x * scale + (1.0 if "norm" in name and name.endswith("weight") else 0.0)
    return out


def write(folder, content=None, weights=None, universe=None):
    """The three files, from what is given."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config() if content is None else content))
    save_file(tensors() if weights is None else weights, folder / "model.safetensors", metadata={"format": "pt"})
    text = (regions() if universe is None else universe).to_csv(sep="\t", header=False, index=False)
    (folder / "universe.bed.gz").write_bytes(gzip.compress(text.encode()))
    return folder


class Replica(nn.Module):
    """Atacformer by torch's own layers, on padded cells; shares no line with the package."""

    def __init__(self, folder) -> None:
        super().__init__()
        said, state = json.loads((folder / "config.json").read_text()), load_file(folder / "model.safetensors")
        state = {k.removeprefix("atacformer."): v.float() for k, v in state.items()}
        self.positions = said["use_pos_embeddings"]
        self.token = nn.Embedding.from_pretrained(state["embeddings.token_embeddings.weight"])
        self.position = nn.Embedding.from_pretrained(state["embeddings.position_embeddings.weight"])
        layer = nn.TransformerEncoderLayer(
            said["hidden_size"], said["num_attention_heads"], said["intermediate_size"], dropout=0.1, activation="relu",
            layer_norm_eps=1e-5, batch_first=True, norm_first=False,
        )  # fmt: skip
        self.encoder = nn.TransformerEncoder(layer, said["num_hidden_layers"], enable_nested_tensor=False)
        self.encoder.load_state_dict(
            {k.removeprefix("encoder."): v for k, v in state.items() if k.startswith("encoder.")}
        )
        self.head = {k: v for k, v in state.items() if k.startswith("discriminator.")}
        self.pad = said["pad_token_id"]
        self.eval()

    @torch.no_grad()
    def hidden(self, cells: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        longest = max(map(len, cells))
        ids = torch.tensor([c + [self.pad] * (longest - len(c)) for c in cells])
        x = self.token(ids)
        if self.positions:
            x = x + self.position(torch.arange(longest))
        return self.encoder(x, src_key_padding_mask=ids == self.pad), ids != self.pad

    def embed(self, cells: list[list[int]]) -> np.ndarray:
        x, mask = self.hidden(cells)
        return ((x * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)).numpy()

    def logits(self, cells: list[list[int]]) -> np.ndarray:
        x, mask = self.hidden(cells)
        h = self.head
        x = nn.functional.linear(x, h["discriminator.dense.weight"], h["discriminator.dense.bias"])
        x = nn.functional.gelu(x)
        x = nn.functional.layer_norm(x, x.shape[-1:], h["discriminator.norm.weight"], h["discriminator.norm.bias"])
        x = nn.functional.linear(x, h["discriminator.classifier.weight"], h["discriminator.classifier.bias"])
        return x[..., 0][mask].numpy()


def overlapped(bins: pd.DataFrame, universe: pd.DataFrame) -> list[list[int]]:
    """Token ids that each bin overlaps, one pair at a time."""
    return [
        [
            i for i, (c, s, e) in enumerate(universe.itertuples(index=False))
            if c == chrom and s < end and e > start
        ]
        for chrom, start, end in bins.itertuples(index=False)
    ]  # fmt: skip


def bins(width=700) -> pd.DataFrame:
    """Bins side by side over the universe's chromosomes, and over one that it does not know."""
    rows = [(c, s, s + width) for c, n in (("chr1", 121_000), ("chr2", 61_000), ("chr7", 5_000), ("chrX", 61_000))
            for s in range(0, n, width)]  # fmt: skip
    return pd.DataFrame(rows, columns=["chrom", "start", "end"])


def planted(n_cells=60, mean=30, seed=0) -> ad.AnnData:
    """Cells of two types over bins; stretches of 20 bins are more often open in one and in the other by turns."""
    rng = np.random.default_rng(seed)
    table = bins()
    kind = np.arange(n_cells) % 2
    rate = np.where((np.arange(len(table)) // 20 % 2)[None] == kind[:, None], 1.8, 0.2) * mean / len(table)
    depth = np.exp(rng.normal(0, 0.4, n_cells))[:, None]
    x = sp.csr_matrix((rng.random(rate.shape) < (rate * depth).clip(max=0.95)).astype(np.float32))
    obs = pd.DataFrame({"type": pd.Categorical(np.array(["B", "T"])[kind])}, index=[f"c{i}" for i in range(n_cells)])
    table.index = table.index.map(lambda i: f"bin{i}")
    return ad.AnnData(x, obs=obs, var=table)
