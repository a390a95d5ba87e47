"""Contribution of a bin's DNA to its embedding: a frozen, standardised table through trained projections."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .config import NetworkConfig

ROWS_AT_ONCE = 65_536  # of the table in float32 at a time: 268 MB of 1,024 numbers a bin


class DnaProjection(nn.Module):
    """A frozen table ``n_bins`` x ``d_dna`` (float16), added to bins by linear maps of its standardised columns.

    One map to the ``d_model`` dimensions that the encoder reads, and one to the ``d_embed`` dimensions that the decoder
    reads, unless it reads the same as the encoder. Both are initialised to zero, so that the network is initially the
    same as without DNA. Bins whose row is zero (only N) and special tokens get no contribution. The table is not part
    of ``state_dict``."""

    bits: Tensor
    centre: Tensor
    scale: Tensor

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.shape = (config.n_bins, config.d_dna)
        self.to_tokens = nn.Parameter(torch.zeros(config.d_model, config.d_dna))
        self.to_rows = None
        if config.decoder_input != "full":
            self.to_rows = nn.Parameter(torch.zeros(config.d_embed, config.d_dna))
        # the bits of float16 as integers, so that converting the network to float64 or bfloat16 does not change them
        self.register_buffer("bits", torch.zeros(0, config.d_dna, dtype=torch.int16), persistent=False)
        self.register_buffer("centre", torch.zeros(config.d_dna))
        self.register_buffer("scale", torch.ones(config.d_dna))

    @torch.no_grad()
    def hold(self, table: Tensor) -> None:
        """Use ``table`` (n_bins, d_dna), float16, without a copy, on the device of this module, and standardise its
        columns.

        Mean and standard deviation are computed over non-zero rows; a constant column is set to zero.
        """
        if tuple(table.shape) != self.shape or table.dtype != torch.float16:
            raise ValueError(
                f"the DNA table has dtype {table.dtype} and shape {tuple(table.shape)}; expected float16 and {self.shape}."
            )
        mean = torch.zeros(self.shape[1], dtype=torch.float64)
        for power in (1, 2):  # in two passes: in one, columns far from zero would lose their variance
            count, total = 0, torch.zeros_like(mean)
            for part in table.split(ROWS_AT_ONCE // 4):
                rows = part[(part != 0).any(1)].double().cpu()
                count += len(rows)
                total += ((rows - mean) ** power).sum(0)
            mean = total / max(count, 1) if power == 1 else mean
        if not count or not bool(total.isfinite().all()):
            what = "is zero everywhere" if not count else "has numbers that are NaN or infinite"
            raise ValueError(f"the DNA table {what}.")
        std = (total / count).sqrt()
        constant = std <= 1e-4 * mean.abs()
        self.centre.copy_(mean)
        # rows of length 1 on average, so that the size of an update does not depend on the number of columns
        length = max(int((~constant).sum()), 1) ** 0.5
        self.scale.copy_(torch.where(constant, 0.0, 1 / (std.clamp_min(1e-12) * length)))
        self.bits = table.view(torch.int16).to(self.centre.device)

    @property
    def table(self) -> Tensor:
        """The table as it was given.  (n_bins, d_dna), float16; no copy."""
        return self.bits.view(torch.float16)

    def tokens(self, bins: Tensor) -> Tensor:
        """Contribution to the encoder's input.  (len(bins), d_model)"""
        return self._project(bins, self.to_tokens)

    def rows(self, bins: Tensor) -> Tensor:
        """Contribution to the decoder's bin vectors.  (len(bins), d_embed)"""
        assert self.to_rows is not None, "a decoder that reads the encoder's input has no separate map"
        return self._project(bins, self.to_rows)

    def _project(self, bins: Tensor, weight: Tensor) -> Tensor:
        if not len(self.bits):
            raise RuntimeError("the network has no DNA table. Set one with embedding.dna.hold(table).")
        if len(bins) <= ROWS_AT_ONCE:
            return self._linear(bins, weight)
        parts = bins.split(ROWS_AT_ONCE)
        if not torch.is_grad_enabled():
            return torch.cat([self._linear(part, weight) for part in parts])
        # recomputed in the backward pass instead of stored
        return torch.cat(
            [checkpoint(self._linear, part, weight, use_reentrant=False, preserve_rng_state=False) for part in parts]
        )

    def _linear(self, bins: Tensor, weight: Tensor) -> Tensor:
        rows = self.bits.index_select(0, bins).view(torch.float16)  # (len(bins), d_dna)
        known = (rows != 0).any(1, keepdim=True)
        standard = (rows.float() - self.centre) * self.scale * known
        return F.linear(standard.to(weight.dtype), weight)
