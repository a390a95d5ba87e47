"""The network: from a cell's kept bins to its embedding and the state of every bin."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .config import NetworkConfig
from .cross_attention import CrossAttention
from .decoders import Context, check_readers, make_decoder, state_logits
from .embedding import BinEmbedding
from .encoder import Encoder
from .labels import LabelHead, LabelTarget, label_loss, n_labelled
from .losses import MeanLoss, exhaustive_open_loss, kept_loss, sampled_open_loss
from .minibatch import Minibatch, TrainingMinibatch

N_CENTRES = 10  # centres of the local batch shifts; unused ones have no shift


def shortened(z: Tensor) -> Tensor:
    """Each embedding divided by its length to the power 3/4, as returned to users.  (n_cells, d_embed)"""
    return z / z.norm(dim=1, keepdim=True).clamp_min(1e-12) ** 0.75


class Cells(NamedTuple):
    """A minibatch after the encoder."""

    z: Tensor  # (n_cells, d_embed): the embedding
    eos: Tensor | None  # (n_cells, n_eos, d_model)
    cls: Tensor | None = None  # (n_cells, d_model); None for a network without it


class ScAtacNetwork(nn.Module):
    """Encoder of cell sentences and decoder of bin states.

    The embedding of a cell is the sum of the pooled rows of its kept bins and the encoder's output at ``<cls>``,
    projected to d_embed numbers by a map that is initialised to zero: before training, it *is* the pool. Without
    ``cls_token`` it is always the pool."""

    group: Tensor
    latent_weight: Tensor
    log_frequency: Tensor
    mean_depth: Tensor
    batch_shift: Tensor
    local_shift: Tensor
    shift_centres: Tensor
    shift_width: Tensor

    def __init__(self, config: NetworkConfig, group: Tensor, seed: int = 0, readers: Tensor | None = None) -> None:
        """``group``: (n_bins,) int64, the ``<eos>`` of each bin; ``seed`` of the weights (the global random state is
        not changed). If bins can have several ``<eos>``, ``readers`` (n_groups, n_eos) has the weight of each in the
        bins of a group, with rows that sum to 1."""
        check_readers(config, group, readers)
        super().__init__()
        self.config = config
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.embedding = BinEmbedding(config)
            self.encoder = Encoder(config)
            self.to_latent = nn.Linear(config.d_model, config.d_embed, bias=False) if config.cls_token else None
            self.decoder = make_decoder(config, readers)
            self.cross = CrossAttention(config) if config.decoder == "cross_attention" else None
            # last, so that the random numbers of the others do not depend on it
            width = config.d_embed + config.d_model * config.cls_token
            self.heads = nn.ModuleDict({task: LabelHead(width, n) for task, n in config.tasks.items()})
        if self.to_latent is not None:
            nn.init.zeros_(self.to_latent.weight)
        # the chromosome of a bin is in the vocabulary; its classes must be saved
        self.register_buffer("group", group.long(), persistent=readers is not None)
        self.register_buffer("latent_weight", torch.ones(config.d_embed))  # zero for dimensions that are not used
        # log of each bin's share of all open entries, by which closed bins are sampled
        self.register_buffer(
            "log_frequency", torch.full((config.n_bins,), -float(torch.tensor(config.n_bins, device="cpu").log()))
        )
        self.register_buffer("mean_depth", torch.ones(()))
        # shift of each batch in the embedding, and residual shifts around a few centres: both are subtracted
        self.register_buffer("batch_shift", torch.zeros(config.n_batch, config.d_embed))
        self.register_buffer("local_shift", torch.zeros(config.n_batch, N_CENTRES, config.d_embed))
        self.register_buffer("shift_centres", torch.zeros(N_CENTRES, config.d_embed))
        self.register_buffer("shift_width", torch.ones(()))

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.latent_weight.device

    def encode(self, batch: Minibatch, decoder_only: bool = False) -> Cells:
        """Embedding of each cell, and the encoder's output at ``<eos>`` and ``<cls>``.

        ``decoder_only`` skips the encoder: the embedding is the pool, without gradient.
        """
        if decoder_only:
            with torch.no_grad():
                return Cells(self._pool(batch) * self.latent_weight, None)
        pooled = self._pool(batch)
        x, boundaries = self.embedding.sentences(pooled, batch["tokens"], batch["token_cu_seqlens"])
        special = boundaries[:-1].long()[:, None] + torch.arange(self.embedding.n_special, device=x.device)
        if self.cross is None:
            head = self.encoder(x, boundaries, special)  # (n_cells, n_special, d_model)
            eos = head[:, -self.config.n_eos :]  # (n_cells, n_eos, d_model)
        else:
            x = self.encoder(x, boundaries)
            head = x.index_select(0, special.flatten()).unflatten(0, special.shape)
            eos = self.cross(self.embedding.queries(pooled), x, boundaries)
        if self.to_latent is None:
            return Cells(pooled * self.latent_weight, eos)
        return Cells((pooled + self.to_latent(head[:, 0])) * self.latent_weight, eos, head[:, 0])

    def embed(self, batch: Minibatch) -> Tensor:
        """Only the embedding, as in :meth:`encode`; the encoder is skipped if ``<cls>`` does not contribute.

        (n_cells, d_embed)
        """
        return self.encode(batch, decoder_only=self.to_latent is None or not bool(self.to_latent.weight.any())).z

    def head_inputs(self, cells: Cells) -> Tensor:
        """Input of the supervised heads: the embedding divided by the square root of its length, and ``<cls>`` if
        present.

        (n_cells, d_embed + d_model) or (n_cells, d_embed)
        """
        z = cells.z / cells.z.norm(dim=1, keepdim=True).clamp_min(1e-12).sqrt()
        return z if cells.cls is None else torch.cat([z, cells.cls], 1)

    def _pool(self, batch: Minibatch) -> Tensor:
        """The pooled cells, with batch shifts subtracted; a cell without bins stays at zero."""
        pooled = self.embedding.pool(batch["bins"], batch["cu_seqlens"])
        if self.config.n_batch == 1:
            return pooled
        any_bins = batch["cu_seqlens"][1:] > batch["cu_seqlens"][:-1]
        own = batch.get("own_batch", batch["batch"])
        pooled = pooled - self.batch_shift[own] * any_bins[:, None]
        with torch.no_grad():
            z = shortened(pooled * self.latent_weight)
            distance = ((z[:, None] - self.shift_centres) ** 2).sum(-1)  # (n_cells, N_CENTRES)
            near = torch.softmax(-distance / self.shift_width, 1)
            local = (near[:, :, None] * self.local_shift[own]).sum(1)
        return pooled - local * any_bins[:, None]

    def context(self, cells: Cells, depth: Tensor, batch: Tensor) -> Context:
        """``depth``: (n_cells,) open bins of the cell that is predicted; ``batch``: (n_cells,) int64."""
        return self.decoder.context(cells.z, cells.eos, torch.log(depth.clamp_min(1.0) / self.mean_depth), batch)

    def loss(
        self,
        batch: TrainingMinibatch,
        decoder_only: bool = False,
        kept_weight: float = 0.1,
        labels: dict[str, LabelTarget] | None = None,
    ) -> dict[str, Tensor]:
        """Losses of one minibatch: the means of :meth:`losses` by name, and ``loss``, their weighted total."""
        means = {name: loss.mean for name, loss in self.losses(batch, decoder_only, labels).items()}
        return {"loss": weighted_total(means, kept_weight, labels), **means}

    def losses(
        self,
        batch: TrainingMinibatch,
        decoder_only: bool = False,
        labels: dict[str, LabelTarget] | None = None,
    ) -> dict[str, MeanLoss]:
        """Losses of a minibatch, and what they are means over.

        ``open``: nats per removed bin; ``kept``, if bins are removed: nats per open bin; and those of ``labels`` by task.
        """
        cells = self.encode(batch, decoder_only)
        context = self.context(cells, batch["depth"], batch["batch"])
        target, cell = batch["target_bins"], batch["target_cell"]

        def rows(bins: Tensor) -> Tensor:
            # while only the decoder is trained, the vectors that it reads are fixed
            return self.embedding.decoder_rows(bins).detach() if decoder_only else self.embedding.decoder_rows(bins)

        open_pairs = self.decoder.pairs(context, rows(target), target, cell, self.group[target])
        if "sampled" in batch:
            sampled = batch["sampled"]
            log_g = self.log_frequency + float(torch.tensor(float(max(len(sampled), 1))).log())
            n_open = open_pairs.new_tensor(float(len(open_pairs)), dtype=torch.float32)
            opened = sampled_open_loss(
                open_pairs,
                batch["log_rate"][cell] - log_g[target],
                self.decoder.block(context, rows(sampled), sampled, self.group[sampled]),
                batch["log_rate"][:, None] - log_g[sampled],
                batch["closed"],
            )
        else:
            order, place = self._by_group()
            weight = torch.exp(-batch["log_rate"])[cell]
            n_open = weight.sum()
            opened = exhaustive_open_loss(
                self.decoder, context, rows, order, self.group[order], open_pairs,
                weight, (batch["open_cell"], place[batch["open_bins"]]),
            )  # fmt: skip
        losses = {"open": MeanLoss(opened, n_open)}
        # without removed bins there are no states to predict
        if cells.eos is not None and self.config.removed_share > 0 and len(batch["state_bins"]):
            bins = batch["state_bins"]
            logits = self.decoder.kept_pairs(context, rows(bins).detach(), batch["state_cell"], self.group[bins])
            losses["kept"] = MeanLoss(kept_loss(logits, batch["state_kept"]), n_open.new_tensor(float(len(bins))))
        for task, label in (labels or {}).items():
            if decoder_only:
                break
            logits = self.heads[task](self.head_inputs(cells))
            codes = label.codes[batch["cells"]]
            loss = label_loss(logits, codes, label.class_weight)
            losses[task] = MeanLoss(loss, n_labelled(codes, label.class_weight))
        return losses

    @torch.no_grad()
    def accessibility(self, context: Context, bins: Tensor) -> Tensor:
        """Probability that each bin is open: P(kept) + P(removed).  (n_cells, len(bins)), in the order of ``bins``."""
        return self._states(context, bins, states=False)

    @torch.no_grad()
    def states(self, context: Context, bins: Tensor) -> Tensor:
        """Probability of (closed, kept, removed); the last is 0 with ``removed_share`` 0.  (n_cells, len(bins), 3)"""
        return self._states(context, bins, states=True)

    def _states(self, context: Context, bins: Tensor, states: bool) -> Tensor:
        order = torch.argsort(self.group[bins], stable=True)
        back = torch.argsort(order)
        bins = bins[order]
        rows, group = self.embedding.decoder_rows(bins), self.group[bins]
        open_logit = self.decoder.block(context, rows, bins, group)
        if not states:
            return torch.sigmoid(open_logit)[:, back]
        if self.config.removed_share == 0:
            kept_logit = torch.full_like(open_logit, torch.inf)
        else:
            kept_logit = self.decoder.kept_block(context, rows, group)
        return torch.softmax(state_logits(open_logit, kept_logit), -1)[:, back]

    def _by_group(self) -> tuple[Tensor, Tensor]:
        """All bins sorted by group, and the position of each bin in that order."""
        order = torch.argsort(self.group, stable=True)
        place = torch.empty_like(order)
        place[order] = torch.arange(len(order), device=order.device)
        return order, place


def weighted_total(
    means: Mapping[str, Tensor], kept_weight: float, labels: Mapping[str, LabelTarget] | None = None
) -> Tensor:
    """What is minimised: the weighted sum of the losses.  ()"""
    total = means["open"]
    if "kept" in means:
        total = total + kept_weight * means["kept"]
    for task, label in (labels or {}).items():
        if task in means:
            total = total + label.weight * means[task]
    return total
