"""Configuration of a network: one frozen record, checked when it is created."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

from scatacformer.nn.attention import BACKENDS

SIZES: dict[str, dict[str, int]] = {
    # small: minutes on a laptop. base: the founding design (12 layers, 512 wide, sentences of up to 6,800 kept bins)
    "small": {"d_model": 128, "n_layers": 2, "n_heads": 4, "d_embed": 32, "max_tokens": 512},
    "base": {"d_model": 512, "n_layers": 12, "n_heads": 8, "d_embed": 64, "max_tokens": 6800},
}
EMBEDDINGS = ("factorised", "full")
DECODER_INPUTS = ("small", "full")
DECODERS = ("bilinear", "mlp", "cross_attention")


@dataclass(frozen=True)
class NetworkConfig:
    """Sizes and switches of a :class:`~scatacformer.nn.ScAtacNetwork`.

    ``d_embed`` is the rank of the factorised bin table and the width of the cell embedding, ``d_model`` the width of
    the encoder, ``max_tokens`` the maximum number of kept bins per cell that the encoder reads (all of them are
    pooled), ``n_eos`` the number of ``<eos>``: one per chromosome, or one per class of genomic region."""

    n_bins: int
    n_eos: int
    n_batch: int = 1
    d_model: int = 128
    n_layers: int = 2
    n_heads: int = 4
    d_embed: int = 32
    max_tokens: int = 512
    decoder: str = "bilinear"
    d_decoder: int = 64
    removed_share: float = 0.5
    attention: str = "auto"
    cls_token: bool = True
    embedding: str = "factorised"
    decoder_input: str = "small"
    n_labels: int = 0  # number of labels of the supervised head; 0: no such head
    n_organs: int = 0
    d_dna: int = 0  # columns of the DNA table; 0: none

    def __post_init__(self) -> None:
        for name in ("n_bins", "n_eos", "n_batch", "d_model", "n_layers", "n_heads", "d_embed", "max_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected at least 1.")
        if self.d_model % self.n_heads:
            raise ValueError(f"d_model is {self.d_model}; expected a multiple of n_heads ({self.n_heads}).")
        choices = {"decoder": DECODERS, "embedding": EMBEDDINGS, "decoder_input": DECODER_INPUTS}
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise ValueError(f"{name} is {getattr(self, name)!r}; expected one of {known}.")
        if self.attention not in ("auto", *BACKENDS):
            raise ValueError(f"attention is {self.attention!r}; expected one of {('auto', *BACKENDS)}.")
        for name in ("n_labels", "n_organs"):
            if getattr(self, name) < 0 or getattr(self, name) == 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected 0 or at least 2.")
        if self.d_dna < 0:
            raise ValueError(f"d_dna is {self.d_dna}; expected 0 or more.")
        if not 0 <= self.removed_share <= 0.9:
            raise ValueError(f"removed_share is {self.removed_share}; expected 0 ... 0.9.")

    @classmethod
    def of_size(cls, size: str, **changes) -> NetworkConfig:
        """A preset, ``"small"`` or ``"base"``, with changes (None: keep the preset's value)."""
        if size not in SIZES:
            raise ValueError(f"size is {size!r}; expected one of {tuple(SIZES)}.")
        return cls(**SIZES[size] | {k: v for k, v in changes.items() if v is not None})

    @property
    def d_row(self) -> int:
        """Width of the bin vectors that the decoder reads."""
        return self.d_model if self.decoder_input == "full" else self.d_embed

    @property
    def tasks(self) -> dict[str, int]:
        """Tasks of the supervised heads, with their numbers of labels; empty for an unsupervised network."""
        return {task: n for task, n in (("labels", self.n_labels), ("organ", self.n_organs)) if n}

    @property
    def n_special(self) -> int:
        """Number of tokens of a sentence before its bins: ``<cls>``, and ``<eos>`` unless they are outside the
        sentence."""
        return self.cls_token + (self.decoder != "cross_attention") * self.n_eos

    def operations_per_token(self, length: int, training: bool = True) -> int:
        """Floating-point operations of the encoder for each token of a sentence of ``length`` tokens.

        A multiplication and an addition count as two. The matrices of a layer have 12 d_model^2 numbers, and each takes
        one multiply-add per token; attention adds 2 d_model multiply-adds for each token attended to. In the last
        layer, unless ``<eos>`` are outside the sentence, only the special tokens use more than the 3 d_model^2 of
        queries, keys and values. The backward pass takes twice as many as the forward pass."""
        asks = 4 * self.d_model * length + 18 * self.d_model**2
        share = 1.0 if self.decoder == "cross_attention" else self.n_special / length
        forward = self.n_layers * 6 * self.d_model**2 + (self.n_layers - 1 + share) * asks
        return round(forward * (3 if training else 1))

    def to_dict(self) -> dict:
        """Plain numbers and strings, for JSON."""
        return asdict(self)

    def replace(self, **changes) -> NetworkConfig:
        """A checked copy with changes."""
        return replace(self, **changes)
