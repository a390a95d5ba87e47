"""GET's network: from the motifs and the accessibility of the regions in a window to the expression of each region.

Regions have no position: the output of a region does not depend on the order in which the others are given. Source of
the architecture: Fu et al., Nature 2025 (GET), rebuilt from its description; :meth:`GETNetwork.to_published` and
:meth:`GETNetwork.from_published` convert the names of its published tensors.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TARGETS = ("expression", "accessibility", "reconstruction")
SIZES: dict[str, dict[str, int]] = {
    "small": {"d_model": 96, "n_layers": 3, "n_heads": 4, "n_regions": 50},  # trains on a laptop in minutes
    "base": {"d_model": 768, "n_layers": 12, "n_heads": 12, "n_regions": 200},  # the paper's
}


@dataclass(frozen=True)
class GETConfig:
    """Sizes of the network. Raises ValueError for sizes that do not fit together.

    Parameters
    ----------
    n_features
        Columns of the input: the motifs, and accessibility as the last.
    n_regions
        Regions of a window. The network reads windows of any length; this is the length that it is trained with.
    d_model, n_layers, n_heads
        Width, number and attention heads of the transformer blocks.
    d_feedforward
        Width inside a block's MLP; None: four times ``d_model``.
    drop_path
        Probability that the last block is skipped for a window in training; it rises from 0 at the first block.
    input_dropout
        Share of the motif scores of a region that are set to 0 in training, sampled anew in each step; the others are
        scaled to preserve the mean. 0, as published, for many regions; 0.3 to 0.5 where there are few and the features
        are many.
    n_groups
        Number of groups whose accessibility is predicted from the motifs: outputs of that head.
    """

    n_features: int
    n_regions: int = 200
    d_model: int = 768
    n_layers: int = 12
    n_heads: int = 12
    d_feedforward: int | None = None
    drop_path: float = 0.1
    n_groups: int = 1
    input_dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.d_feedforward is None:
            object.__setattr__(self, "d_feedforward", 4 * self.d_model)
        for name in ("n_features", "n_regions", "d_model", "n_layers", "n_heads", "d_feedforward", "n_groups"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{name} is {value!r}; expected a whole number of at least 1.")
        if self.n_features < 2:
            raise ValueError(f"n_features is {self.n_features}; expected at least one motif and the accessibility.")
        if self.d_model % self.n_heads:
            raise ValueError(f"d_model is {self.d_model}; expected a multiple of the {self.n_heads} attention heads.")
        for name in ("drop_path", "input_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected at least 0 and below 1.")

    @classmethod
    def of_size(cls, size: str, n_features: int, **changes: Any) -> GETConfig:
        """A preset, ``"small"`` or ``"base"``, with changes by name."""
        if size not in SIZES:
            raise ValueError(f"size {size!r} is unknown; choose one of {tuple(SIZES)}.")
        known = {field.name for field in fields(cls)} - {"n_features"}
        if unknown := sorted(set(changes) - known):
            raise ValueError(f"GET has no size {unknown[0]!r}; its sizes are {', '.join(sorted(known))}.")
        return cls(n_features, **{**SIZES[size], **changes})

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, for JSON; ``GETConfig(**config.to_dict())`` is the same configuration."""
        return asdict(self)


class GETNetwork(nn.Module):
    """From windows of regions to expression, accessibility or the masked regions themselves.

    ``target`` selects the head: ``"expression"`` gives (B, R, 2) for the + and the - strand, ``"accessibility"`` gives
    (B, R, n_groups) and replaces the accessibility column of the input by ones; both are at least 0 (softplus).
    ``"reconstruction"`` gives (B, R, n_features) for windows with masked regions. ``seed`` determines the weights and
    what is left out in training: blocks and motif scores."""

    def __init__(self, config: GETConfig, target: str = "expression", seed: int = 0) -> None:
        super().__init__()
        if target not in TARGETS:
            raise ValueError(f"target {target!r} is unknown; choose one of {TARGETS}.")
        self.config, self.target = config, target
        d = config.d_model
        self.region_embedding = nn.Linear(config.n_features, d)
        self.cls = nn.Parameter(torch.zeros(1, 1, d))
        rates = [config.drop_path * i / max(config.n_layers - 1, 1) for i in range(config.n_layers)]
        self.blocks = nn.ModuleList(_Block(config, rate) for rate in rates)
        self.norm = nn.LayerNorm(d, eps=1e-6)
        if target == "reconstruction":
            self.mask_token = nn.Parameter(torch.zeros(1, 1, d))
        self.head = nn.Linear(d, {"expression": 2, "accessibility": config.n_groups}.get(target, config.n_features))
        self.sampled = torch.Generator().manual_seed(seed)  # on the CPU: the same blocks are skipped on every device
        self.initialise(torch.Generator().manual_seed(seed))

    @torch.no_grad()
    def initialise(self, generator: torch.Generator) -> None:
        """Sample all weights: truncated N(0, 0.02), biases zero; the head truncated N(0, 1 / d_model)."""
        if self.cls.is_meta:
            return
        for name, parameter in self.named_parameters():
            if parameter.dim() > 1:
                nn.init.trunc_normal_(parameter, std=0.02, generator=generator)
            elif "norm" not in name:
                nn.init.zeros_(parameter)
        # with the published head, of a thousandth of 0.02, both strands learn the same at first and stay there: 2.6
        # times the loss after 40 epochs on planted strands
        nn.init.trunc_normal_(self.head.weight, std=self.config.d_model**-0.5, generator=generator)

    def forward(
        self, x: Tensor, padding: Tensor | None = None, masked: Tensor | None = None, read: Tensor | None = None
    ) -> Tensor:
        """Output of every region, or of those in ``read``.

        ``x`` (B, R, n_features); ``padding`` (B, R) bool, True where a window has no region; ``masked`` (B, R) bool,
        True where a region is replaced by the mask token; ``read`` (B, k) positions of the regions to return: the
        last block then computes only these. Returns (B, R or k, outputs of the head).
        """
        return self.predict(self.embed(x), padding, masked, read)

    def embed(self, x: Tensor) -> Tensor:
        """Region embedding before the encoder.  (B, R, n_features) -> (B, R, d_model)"""
        if self.target == "accessibility":
            x = torch.cat((x[..., :-1], torch.ones_like(x[..., -1:])), -1)
        if self.training and self.config.input_dropout:
            rate = self.config.input_dropout
            kept = (torch.rand(x.shape, generator=self.sampled) >= rate).to(x.device, x.dtype) / (1 - rate)
            kept[..., -1] = 1  # the accessibility
            x = x * kept
        return self.region_embedding(x)

    def predict(
        self, x: Tensor, padding: Tensor | None = None, masked: Tensor | None = None, read: Tensor | None = None
    ) -> Tensor:
        """Embedded regions (B, R, d_model) to the output; the rest as in :meth:`forward`."""
        x = self.head(self.encode(x, padding, masked, read))
        return x if self.target == "reconstruction" else F.softplus(x)

    def encode(
        self, x: Tensor, padding: Tensor | None = None, masked: Tensor | None = None, read: Tensor | None = None
    ) -> Tensor:
        """Output of the encoder.  (B, R, d_model) -> (B, R or k, d_model)"""
        if masked is not None:
            if self.target != "reconstruction":
                raise ValueError(f"a network with target {self.target!r} has no mask token.")
            x = torch.where(masked[..., None], self.mask_token.to(x.dtype), x)
        x = torch.cat((self.cls.to(x.dtype).expand(len(x), -1, -1), x), 1)  # (B, 1 + R, d_model)
        seen = None
        if padding is not None and padding.any():
            seen = ~F.pad(padding, (1, 0))[:, None, None]  # (B, 1, 1, 1 + R): <cls> is always seen
        for block in self.blocks[:-1]:
            x = block(x, seen, self.sampled)
        x = self.blocks[-1](x, seen, self.sampled, None if read is None else read + 1)
        return self.norm(x if read is not None else x[:, 1:])

    def with_target(self, target: str, seed: int = 0, n_groups: int = 1) -> GETNetwork:
        """A network with another head (and mask token), sampled by ``seed``; all other weights are copied."""
        other = GETNetwork(replace(self.config, n_groups=n_groups), target, seed).to(self.device)
        shared = {name: value for name, value in self.state_dict().items() if name.split(".")[0] not in _OWN}
        other.load_state_dict(other.state_dict() | shared)
        return other

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.cls.device

    def to_published(self) -> dict[str, Tensor]:
        """The weights under the names of the published state dicts."""
        return {_published_name(name, self.target): value for name, value in self.state_dict().items()}

    @classmethod
    def from_published(
        cls, state: Mapping[str, Tensor], n_heads: int | None = None, n_regions: int = 200
    ) -> GETNetwork:
        """A network with published weights; its sizes and its target follow from the shapes.

        Parameters
        ----------
        state
            Published names and tensors; prefixes ``model.`` and ``module.`` are ignored.
        n_heads
            Number of attention heads, which does not follow from the shapes; None: one per 64 columns, as published.
        n_regions
            Number of regions in a window.

        Raises
        ------
        ValueError
            Names that are missing, unknown or of another shape.
        """
        return _from_published(state, n_heads, n_regions)


def masked_error(reconstruction: Tensor, x: Tensor, masked: Tensor) -> Tensor:
    """Mean squared error of all features of the masked regions, the pretraining loss.  (B, R, n_features) -> ()"""
    return F.mse_loss(reconstruction[masked].float(), x[masked].float())


def jacobian(
    network: GETNetwork,
    x: Tensor,
    read: Tensor,
    strand: Tensor,
    padding: Tensor | None = None,
    wrt: str = "input",
) -> tuple[Tensor, Tensor]:
    """Derivative of one output of each window with respect to the window's input, and the output itself.

    One backward pass serves the whole batch: windows are independent, so the derivative of the sum of their outputs
    is that of each window. No gradients of weights are computed. The network must be in evaluation mode.

    Parameters
    ----------
    network
        With target ``"expression"`` or ``"accessibility"``.
    x
        Windows, (B, R, n_features).
    read
        Position in its window of the region whose output is differentiated, (B,).
    strand
        Which of its outputs, (B,): 0 for + and 1 for -; 0 for accessibility.
    padding
        (B, R) bool, True where a window has no region.
    wrt
        ``"input"`` or ``"region_embedding"``, the output of the region embedding.

    Returns
    -------
    (B, R, n_features or d_model) derivative, and (B,) the outputs.
    """
    if wrt not in ("input", "region_embedding"):
        raise ValueError(f"wrt is {wrt!r}; expected 'input' or 'region_embedding'.")
    frozen = [parameter for parameter in network.parameters() if parameter.requires_grad]
    for parameter in frozen:
        parameter.requires_grad_(False)
    try:
        with torch.enable_grad():
            leaf = (x if wrt == "input" else network.embed(x)).detach().requires_grad_()
            embedded = network.embed(leaf) if wrt == "input" else leaf
            output = network.predict(embedded, padding, read=read[:, None])  # (B, 1, strands)
            chosen = output[:, 0].gather(1, strand[:, None])[:, 0]  # (B,)
            (found,) = torch.autograd.grad(chosen.sum(), leaf)
    finally:
        for parameter in frozen:
            parameter.requires_grad_(True)
    return found, chosen.detach()


class _Block(nn.Module):
    """x + attention(norm(x)), then x + MLP(norm(x)); GELU."""

    def __init__(self, config: GETConfig, drop: float) -> None:
        super().__init__()
        self.drop = drop
        d = config.d_model
        self.norm1, self.norm2 = nn.LayerNorm(d, eps=1e-6), nn.LayerNorm(d, eps=1e-6)
        self.attention = _Attention(config)
        width = config.d_feedforward or 4 * d
        self.up, self.down = nn.Linear(d, width), nn.Linear(width, d)

    def forward(self, x: Tensor, seen: Tensor | None, generator: torch.Generator, read: Tensor | None = None) -> Tensor:
        """(B, T, d_model) -> the same, or (B, k, d_model) of the positions in ``read`` (B, k)."""
        normed = self.norm1(x)
        if read is not None:
            rows = read[..., None].expand(-1, -1, x.shape[-1])
            x = x.gather(1, rows)
            asked = normed.gather(1, rows)
        else:
            asked = normed
        x = x + self._skip(self.attention(asked, normed, seen), generator)
        return x + self._skip(self.down(F.gelu(self.up(self.norm2(x)))), generator)

    def _skip(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """In training, zero for a share of the windows; the others are scaled to preserve the mean."""
        if not self.training or not self.drop:
            return x
        kept = torch.rand(len(x), generator=generator) >= self.drop
        return x * (kept.to(x.device, x.dtype) / (1 - self.drop))[:, None, None]


class _Attention(nn.Module):
    """Multi-head attention with biases for queries and values, none for keys."""

    def __init__(self, config: GETConfig) -> None:
        super().__init__()
        d = config.d_model
        self.n_heads = config.n_heads
        self.qkv = nn.Linear(d, 3 * d, bias=False)
        self.q_bias, self.v_bias = nn.Parameter(torch.zeros(d)), nn.Parameter(torch.zeros(d))
        self.out = nn.Linear(d, d)

    def forward(self, asked: Tensor, x: Tensor, seen: Tensor | None) -> Tensor:
        """Queries from ``asked`` (B, k, d_model), keys and values from ``x`` (B, T, d_model) -> (B, k, d_model)."""
        bias = torch.cat((self.q_bias, torch.zeros_like(self.q_bias), self.v_bias))
        if asked is x:
            q, k, v = (self.qkv(x) + bias).chunk(3, -1)
        else:  # through all of qkv, so that adapters on it are applied
            k, v = (self.qkv(x) + bias).chunk(3, -1)[1:]
            q = (self.qkv(asked) + bias).chunk(3, -1)[0]
        q, k, v = (t.unflatten(-1, (self.n_heads, -1)).transpose(1, 2) for t in (q, k, v))  # (B, heads, ., d_head)
        return self.out(F.scaled_dot_product_attention(q, k, v, attn_mask=seen).transpose(1, 2).flatten(2))


_OWN = ("head", "mask_token")  # of one target
# ours -> published, first match
_NAMES = (
    (r"^region_embedding\.", "region_embed.embed."),
    (r"^cls$", "cls_token"),
    (r"^norm\.", "encoder.norm."),
    (r"^blocks\.(\d+)\.attention\.out\.", r"encoder.blocks.\1.attn.proj."),
    (r"^blocks\.(\d+)\.attention\.", r"encoder.blocks.\1.attn."),
    (r"^blocks\.(\d+)\.up\.", r"encoder.blocks.\1.mlp.fc1."),
    (r"^blocks\.(\d+)\.down\.", r"encoder.blocks.\1.mlp.fc2."),
    (r"^blocks\.(\d+)\.", r"encoder.blocks.\1."),
)
_HEADS = {"expression": "head_exp.head.", "accessibility": "head_atac.head.", "reconstruction": "head_mask."}


def _from_published(state: Mapping[str, Tensor], n_heads: int | None, n_regions: int) -> GETNetwork:
    state = {re.sub(r"^(?:(?:model|module)\.)+", "", name): value for name, value in state.items()}
    target = next((name for name, head in _HEADS.items() if f"{head}weight" in state), None)
    required = ("region_embed.embed.weight", "encoder.blocks.0.mlp.fc1.weight")
    if target is None or any(name not in state for name in required):
        raise ValueError(
            f"this is no state dict of GET: expected {', '.join(required)} and one of "
            f"{', '.join(f'{head}weight' for head in _HEADS.values())}; found {', '.join(list(state)[:5])}, ..."
        )
    if target == "expression" and len(state["head_exp.head.weight"]) == 1:
        target = "accessibility"  # the published motif -> accessibility model reuses the head of expression
        state = {name.replace("head_exp.", "head_atac."): value for name, value in state.items()}
    d_model, n_features = state["region_embed.embed.weight"].shape
    layers = {int(found[1]) for name in state if (found := re.match(r"encoder\.blocks\.(\d+)\.", name))}
    config = GETConfig(
        n_features,
        n_regions,
        d_model,
        len(layers),
        n_heads or max(d_model // 64, 1),
        d_feedforward=len(state["encoder.blocks.0.mlp.fc1.weight"]),
        n_groups=len(state[f"{_HEADS[target]}weight"]) if target == "accessibility" else 1,
    )
    network = GETNetwork(config, target)
    ours = {_published_name(name, target): name for name in network.state_dict()}
    if wrong := sorted(set(ours) ^ set(state)):
        raise ValueError(
            f"{len(wrong)} names differ from those of a GET network with {len(layers)} blocks and target {target!r}: "
            + ", ".join(f"{name} ({'missing' if name in ours else 'unknown'})" for name in wrong[:5])
        )
    shapes = {name: value.shape for name, value in network.state_dict().items()}
    if bent := [name for name, own in ours.items() if state[name].shape != shapes[own]]:
        raise ValueError(f"{bent[0]} has shape {tuple(state[bent[0]].shape)}, expected {tuple(shapes[ours[bent[0]]])}.")
    network.load_state_dict({own: state[name].detach().clone() for name, own in ours.items()})
    return network


def _published_name(name: str, target: str) -> str:
    for ours, theirs in _NAMES:
        if re.match(ours, name):
            return re.sub(ours, theirs, name)
    return re.sub(r"^head\.", _HEADS[target], name)
