"""A DNA language model: a Hugging Face checkpoint, its tokens, and the mean of its last hidden states over a bin."""

from __future__ import annotations

import hashlib
import json
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scatacformer._io import read_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch

_UNUSED = ("pooler.", "contact_head.")  # heads that a checkpoint may lack, and that are not read
_PROBE = "".join(np.random.default_rng(0).choice(list("ACGT"), 997))  # 997 is prime: no multiple of any k


class DnaCheckpoint:
    """Tokenizer and network of a folder or a name on the Hugging Face hub; safetensors alone, no code from it is run.

    Raises ValueError for a checkpoint that is damaged, requires its own code, or is not for DNA; ImportError
    without transformers.
    """

    def __init__(self, name: str, device: str, precision: str) -> None:
        import torch

        self.name, self.device = name, _device(device)
        self.tokenizer, self.network = _load(name)
        self.tokens = DnaTokens(self.tokenizer, name)
        self.n_positions = self._n_positions()
        self.context = (self.n_positions - self.tokens.n_special) * self.tokens.k
        self.checksum = self._checksum()
        self.network = self.network.to(self.device, getattr(torch, precision)).eval().requires_grad_(False)

    @property
    def d(self) -> int:
        """Width of a hidden state."""
        return int(self.network.config.hidden_size)

    def embed(self, sequences: list[str], batch_size: int) -> np.ndarray:
        """Mean of the last hidden states over the tokens of known bases of each sequence.  (n, d), float32.

        A sequence that is longer than the context is read in windows of equal length; all their tokens have the same
        weight. One without any known base is zero."""
        import torch

        owner, windows = [], []
        for number, sequence in enumerate(sequences):
            for window in self.tokens.windows(sequence, self.n_positions):
                owner.append(number)
                windows.append(window)
        total = torch.zeros(len(sequences), self.d, device=self.device)
        count = torch.zeros(len(sequences), device=self.device)
        # by length: little of a batch is padding
        order = sorted(range(len(windows)), key=lambda i: len(windows[i]))
        with torch.inference_mode():
            for first in range(0, len(order), batch_size):
                part = order[first : first + batch_size]
                ids, mask, counted = (x.to(self.device) for x in self.tokens.padded([windows[i] for i in part]))
                hidden = self.network(input_ids=ids, attention_mask=mask).last_hidden_state.float()  # (n, length, d)
                at = torch.tensor([owner[i] for i in part], device=self.device)
                # padding may be anything, NaN too
                total.index_add_(0, at, torch.where(counted[..., None], hidden, 0.0).sum(1))
                count.index_add_(0, at, counted.sum(1).float())
        return (total / count.clamp_min(1)[:, None]).cpu().numpy()

    def _n_positions(self) -> int:
        """Most tokens of a window, special ones too."""
        from torch import nn

        config, limits = self.network.config, [int(self.tokenizer.model_max_length)]
        for name, module in self.network.named_modules():
            if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
                # where positions are counted from the padding token on (ESM, RoBERTa) the first ones are not used
                first = 0 if module.padding_idx is None else module.padding_idx + 1
                limits.append(module.num_embeddings - first)
        if len(limits) == 1 and getattr(config, "max_position_embeddings", None):
            limits.append(int(config.max_position_embeddings))
        if (limit := min(limits)) > 10**6:
            raise ValueError(
                f"{self.name} does not define its context length: neither model_max_length in tokenizer_config.json "
                "nor max_position_embeddings in config.json. Set one of them."
            )
        if limit - self.tokens.n_special < 1:
            raise ValueError(f"{self.name} reads {limit} tokens, of which {self.tokens.n_special} are special.")
        return limit

    def _checksum(self) -> str:
        """SHA-256 of the weights that are read and of the tokenizer's vocabulary, independent of their location."""
        digest = hashlib.sha256(json.dumps(sorted(self.tokenizer.get_vocab().items())).encode())
        for name, tensor in self.network.state_dict().items():
            if not name.startswith(_UNUSED):
                digest.update(f"{name} {tuple(tensor.shape)}".encode())
                digest.update(memoryview(tensor.float().contiguous().numpy()).cast("B"))
        return digest.hexdigest()


class DnaTokens:
    """From DNA to token ids: windows of a sequence, what of them is DNA, padded batches.

    ``k``: bases of a token. Remaining bases, and bases next to an N, can be tokens of one base.
    """

    def __init__(self, tokenizer: Any, name: str) -> None:
        self.tokenizer = tokenizer
        bare = tokenizer(_PROBE, add_special_tokens=False)["input_ids"]
        text = [str(token).upper() for token in tokenizer.convert_ids_to_tokens(bare)]
        if "".join(text) != _PROBE or len({len(token) for token in text[:-10]}) != 1:
            raise ValueError(
                f"the tokenizer of {name} does not read DNA as letters or k-mers side by side (the first of "
                f"{_PROBE[:12]}...: {', '.join(text[:4])}). Expected one such as that of the Nucleotide Transformer."
            )
        self.k = len(text[0])
        whole = tokenizer(_PROBE)["input_ids"]
        before = next(i for i in range(len(whole)) if whole[i : i + len(bare)] == bare)
        self.before, self.after = whole[:before], whole[before + len(bare) :]
        self.padding = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
        vocabulary = tokenizer.get_vocab()
        self.is_dna = np.zeros(max(vocabulary.values()) + 1, dtype=bool)
        self.is_dna[[i for token, i in vocabulary.items() if token and not set(token.upper()) - set("ACGT")]] = True
        # 24 times faster than a tokenizer written in Python, which takes 11 ms a bin
        self._id_of = {token.upper(): i for token, i in vocabulary.items() if len(token) in (1, self.k)}
        self._quick = all(self._side_by_side(_PROBE[n:]) == self._slowly(_PROBE[n:]) for n in range(self.k))

    @property
    def n_special(self) -> int:
        """Special tokens of a window."""
        return len(self.before) + len(self.after)

    def ids(self, sequence: str) -> list[int]:
        """Token ids without special ones."""
        found = self._side_by_side(sequence) if self._quick else None
        return self._slowly(sequence) if found is None else found

    def windows(self, sequence: str, n_positions: int) -> list[list[int]]:
        """Token ids in windows of equal length, special tokens in each; none for a sequence without known bases."""
        ids = [] if set(sequence) <= {"N"} else self.ids(sequence)
        n_windows = -(-len(ids) // (n_positions - self.n_special))
        ends = [len(ids) * number // max(n_windows, 1) for number in range(n_windows + 1)]
        parts = [ids[first:end] for first, end in zip(ends[:-1], ends[1:], strict=True)]
        return [[*self.before, *part, *self.after] for part in parts if self.is_dna[part].any()]

    def padded(self, windows: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Ids (int64), attention mask (int64), and mask of DNA tokens (bool) of windows.  (n, length) each."""
        import torch

        length = max(map(len, windows))
        ids = np.full((len(windows), length), self.padding)
        mask, counted = np.zeros_like(ids), np.zeros(ids.shape, bool)
        for row, window in enumerate(windows):
            ids[row, : len(window)], mask[row, : len(window)] = window, 1
            inner = slice(len(self.before), len(window) - len(self.after))
            counted[row, inner] = self.is_dna[window[inner]]
        return torch.from_numpy(ids), torch.from_numpy(mask), torch.from_numpy(counted)

    def _slowly(self, sequence: str) -> list[int]:
        # not verbose: longer than the context is what windows are for
        return self.tokenizer(sequence, add_special_tokens=False, verbose=False)["input_ids"]

    def _side_by_side(self, sequence: str) -> list[int] | None:
        """k-mers from the left, then single bases; None if one of them is not a token."""
        id_of, end = self._id_of, len(sequence) // self.k * self.k
        try:
            return [id_of[sequence[i : i + self.k]] for i in range(0, end, self.k)] + [id_of[x] for x in sequence[end:]]
        except KeyError:
            return None


def _load(name: str) -> tuple[Any, Any]:
    try:
        import transformers
    except ImportError:
        raise ImportError(
            "DNA language models are run by transformers, which is not installed: pip install 'scatacformer[dna]'."
        ) from None
    from safetensors import SafetensorError

    own_code = _check_folder(Path(name)) if Path(name).is_dir() else ""
    try:
        with _quiet(transformers.utils.logging, local=Path(name).is_dir()):
            tokenizer = transformers.AutoTokenizer.from_pretrained(name, trust_remote_code=False)
            network, found = transformers.AutoModel.from_pretrained(
                name, trust_remote_code=False, use_safetensors=True, output_loading_info=True
            )
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, ImportError, SafetensorError) as error:
        raise ValueError(
            f"the checkpoint {name!r} cannot be loaded: {str(error).strip().splitlines()[0] if str(error) else error!r}. "
            f"{own_code}Expected a folder, or a name on the hub, with config.json, model.safetensors and a tokenizer."
        ) from error
    missing = sorted(key for key in found["missing_keys"] if not key.startswith(_UNUSED))
    if missing or found.get("mismatched_keys"):
        raise ValueError(
            f"the checkpoint {name!r} lacks weights of its network ({len(missing):,}, first: {missing[:1]}), which would "
            f"be random. {own_code}Take a checkpoint of an architecture that transformers has."
        )
    return tokenizer, network


@contextmanager
def _quiet(logging: Any, local: bool) -> Iterator[None]:
    """Suppress reports on unused weights within the block; progress bars of downloads are shown."""
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    if local:
        logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if local and bars:
            logging.enable_progress_bar()


def _check_folder(folder: Path) -> str:
    """Raise ValueError for a folder without a safetensors checkpoint; the message mentions code that it requires."""
    there = sorted(path.name for path in folder.iterdir())
    if "config.json" not in there:
        raise ValueError(f"{folder} is not a checkpoint: it has no config.json (found: {there[:5]}).")
    if not any(name.endswith(".safetensors") for name in there):
        raise ValueError(
            f"{folder} has no weights in safetensors (found: {there[:8]}). A pytorch_model.bin is not opened, for it may "
            "run code. Convert it once with transformers, AutoModelForMaskedLM.from_pretrained(...).save_pretrained(...)."
        )
    config = read_json(folder / "config.json")
    return "It requires its own code (auto_map), which is not run. " if config.get("auto_map") else ""


def _device(device: str) -> torch.device:
    import torch

    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
    except RuntimeError:
        raise ValueError(f"device is {device!r}; expected 'auto', 'cpu' or 'cuda' (or 'cuda:1', ...).") from None
    if found.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device {device!r}: torch finds no GPU; device='cpu' works.")
    return found
