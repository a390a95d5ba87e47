"""Contacts of regions by where they lie, learned from a contact map."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from scatacformer._io import check_hdf5, read_tensors, reading, write_tensors
from scatacformer.nn import ContactNetwork, contact_loss
from scatacformer.training import DescendOptions, descend

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pandas as pd


@dataclass(frozen=True)
class ContactWindows:
    """Windows of a contact map: ``positions`` (n, R) centres of bins in bp, ``contacts`` (n, R, R) log10(contacts + 1).

    NaN marks pairs that were not measured.
    """

    positions: torch.Tensor
    contacts: torch.Tensor


class DistanceContactMap:
    """Contacts between regions, predicted from their distances; :meth:`fit` makes one from a ``.cool`` file.

    What it knows beyond a power law is the shape of the decay and how densely regions lie; loops and domain boundaries
    of a place it cannot know. Source: Fu et al., Nature 2025 (GET).

    Parameters
    ----------
    network
        The trained network.
    history
        Losses by epoch.
    scores
        Pearson correlation with held-out contacts: ``"network"``, ``"powerlaw"``, and ``"ceiling"``, that of the mean
        contacts at each distance in the held-out pairs themselves, which no function of the distance alone exceeds: a low
        one means a sparse map. ``"n_pairs"``: number of pairs.

    Examples
    --------
    >>> import scatacformer as sf
    >>> contact = sf.model.DistanceContactMap.fit("K562.10kb.cool", holdout_chromosomes=["chr14"])
    >>> enhancers = model.score_enhancers(genes=["MYC"], contact=contact)
    """

    def __init__(
        self,
        network: ContactNetwork,
        history: dict[str, pd.DataFrame] | None = None,
        scores: dict[str, float] | None = None,
    ) -> None:
        self.network, self.history, self.scores = network.eval(), history or {}, scores or {}

    @classmethod
    def fit(
        cls,
        cool: str | os.PathLike,
        *,
        holdout_chromosomes: str | Sequence[str] | None = None,
        span: int = 4_000_000,
        n_bins: int = 32,
        n_windows: int = 300,
        max_epochs: int = 30,
        batch_size: int = 8,
        lr: float = 3e-3,
        balance: bool | None = None,
        width: int = 32,
        seed: int = 0,
    ) -> DistanceContactMap:
        """Learn from a contact map.

        Each window is a random selection of bins of one chromosome, so that regions need not lie evenly. Bins without a
        contact, and windows without any, are ignored.

        Parameters
        ----------
        cool
            A ``.cool`` file, or ``"file.mcool::/resolutions/10000"``; read with cooler (extra ``contacts``).
        holdout_chromosomes
            Names of chromosomes that are not trained on. None: the last fifth of every chromosome.
        span
            Longest distance in bp within a window.
        n_bins
            Bins of a window.
        n_windows
            Windows to train on; a quarter as many are held out.
        max_epochs, batch_size, lr
            Of training; it ends when the held-out loss has not fallen for 8 epochs.
        balance
            Whether to read balanced contacts. None: if the file has them.
        width
            Channels of the network's first convolution.
        seed
            Of the windows and of the weights.

        Returns
        -------
        DistanceContactMap
            ``.scores`` compares it with a power law fitted to the same training windows, on the held-out ones.

        Raises
        ------
        ImportError
            cooler is not installed.
        ValueError
            Chromosomes that are not in the file, none left, or no window with data.
        """
        opened = _open(cool)
        parts = _parts(opened, holdout_chromosomes)
        rng = np.random.default_rng(seed)
        with reading(_file_of(cool), "a contact map", "Make it again with cooler, or choose other chromosomes"):
            balance = "weight" in opened.bins().columns if balance is None else balance
            n_span = max(2, min(span // opened.binsize, 2_000))
            factor = _scale(opened, balance)
            train, held_out = (
                _windows(opened, part, n, n_bins, n_span, balance, factor, rng)
                for part, n in zip(parts, (n_windows, max(1, n_windows // 4)), strict=True)
            )
        network = ContactNetwork(width, seed)
        history = _descend(network, train, held_out, max_epochs, batch_size, lr, seed)
        found = cls(network, history)
        found.scores = _compare(found, train, held_out)
        return found

    @torch.inference_mode()
    def contacts(self, positions: Sequence[int] | np.ndarray) -> np.ndarray:
        """Contacts of regions with each other.

        Parameters
        ----------
        positions
            Centres of R regions of one chromosome in bp, sorted.

        Returns
        -------
        (R, R) float32, in the units of the map that was learned from; symmetric.

        Raises
        ------
        ValueError
            The positions are not sorted.
        """
        at = np.asarray(positions, np.int64)
        if at.ndim != 1 or (np.diff(at) < 0).any():
            raise ValueError("positions are the centres of regions of one chromosome, sorted; found others.")
        return 10 ** self.network(torch.from_numpy(at)[None])[0].numpy() - 1

    def save(self, path: str | os.PathLike) -> Path:
        """Write the network and its scores to one safetensors file.

        Parameters
        ----------
        path
            The file; replaced if it is there.
        """
        path = Path(path)
        notes = {"model": "DistanceContactMap", "width": str(self.network.width), "scores": json.dumps(self.scores)}
        write_tensors(path, self.network.state_dict(), **notes)
        return path

    @classmethod
    def load(cls, path: str | os.PathLike) -> DistanceContactMap:
        """Read what :meth:`save` wrote. Nothing in it is executed.

        Parameters
        ----------
        path
            The file. ValueError that names it where it is damaged or of something else.
        """
        from safetensors import safe_open

        state = read_tensors(Path(path))
        with reading(path, "a saved DistanceContactMap"):
            with safe_open(path, "pt") as file:
                notes = file.metadata() or {}
            if notes.get("model") != "DistanceContactMap":
                raise ValueError(f"its metadata are {notes}.")
            width = int(notes["width"])
            if width not in {n for tensor in state.values() for n in tensor.shape}:
                raise ValueError(f"its width is {width:,}, and no tensor in it has it.")
            network = ContactNetwork(width)
            network.load_state_dict(state)
            return cls(network, scores=json.loads(notes["scores"]))


def _open(cool: str | os.PathLike) -> Any:
    try:
        import cooler
    except ImportError:
        raise ImportError("contact maps need cooler: pip install 'scatacformer[contacts]'.") from None
    file = _file_of(cool)
    if not file.is_file():
        raise FileNotFoundError(f"there is no contact map {cool}.")
    check_hdf5(file)
    try:
        opened = cooler.Cooler(str(cool))
        opened.chromnames  # noqa: B018
    except (OSError, KeyError, ValueError) as error:
        raise ValueError(
            f"{cool} is no .cool file ({error}). Of an .mcool name the resolution: file.mcool::/resolutions/10000."
        ) from None
    if opened.binsize is None:
        raise ValueError(f"{cool} has bins of unequal size; expected one resolution.")
    return opened


def _file_of(cool: str | os.PathLike) -> Path:
    return Path(os.fspath(cool).split("::")[0])


Part = list[tuple[str, int, int]]  # chromosome, first bin and the one after the last


def _parts(opened: Any, holdout: str | Sequence[str] | None) -> tuple[Part, Part]:
    """What is trained on, and what is held out."""
    lengths = {str(name): -(-int(size) // opened.binsize) for name, size in opened.chromsizes.items()}
    if holdout is None:
        cut = {name: max(1, int(0.8 * n)) for name, n in lengths.items()}
        return [(name, 0, cut[name]) for name in lengths], [(name, cut[name], n) for name, n in lengths.items()]
    held = [holdout] if isinstance(holdout, str) else [str(name) for name in holdout]
    if unknown := [name for name in held if name not in lengths]:
        raise ValueError(f"holdout_chromosomes names {unknown[0]!r}; the map has {', '.join(list(lengths)[:8])}.")
    if len(held) == len(lengths):
        raise ValueError("all chromosomes of the map are held out: nothing is left to train on.")
    return [(n, 0, e) for n, e in lengths.items() if n not in held], [(n, 0, lengths[n]) for n in held]


def _scale(opened: Any, balance: bool) -> float:
    """What balanced contacts are multiplied by: they sum to 1 a bin, and log10(x + 1) would be zero everywhere."""
    if not balance:
        return 1.0
    pixels = opened.pixels()[:1_000_000]
    weight = opened.bins()["weight"][:].to_numpy()
    balanced = pixels["count"] * weight[pixels["bin1_id"]] * weight[pixels["bin2_id"]]
    known = np.isfinite(balanced)
    return float(pixels["count"][known].sum() / max(balanced[known].sum(), 1e-12))


def _windows(
    opened: Any, part: Part, n: int, n_bins: int, n_span: int, balance: bool, factor: float, rng: np.random.Generator
) -> ContactWindows:
    fits = [(name, first, stop) for name, first, stop in part if stop - first >= 2]
    if not fits:
        raise ValueError("no chromosome has two bins to make windows of.")
    sizes = np.array([stop - first for _, first, stop in fits], np.float64)
    read = opened.matrix(balance=balance)
    positions: list[np.ndarray] = []
    contacts: list[np.ndarray] = []
    length = min(n_bins, int(sizes.max()), n_span)
    for _ in range(20 * n):
        if len(positions) == n:
            break
        name, first, stop = fits[rng.choice(len(fits), p=sizes / sizes.sum())]
        reach = min(n_span, stop - first)
        if reach < length:
            continue
        start = int(rng.integers(first, stop - reach + 1))
        chosen = np.sort(rng.choice(reach, length, replace=False))
        end = min((start + reach) * opened.binsize, int(opened.chromsizes[name]))
        whole = np.asarray(read.fetch((name, start * opened.binsize, end)), np.float64) * factor
        empty = ~(np.nansum(whole, 0) > 0)
        whole[empty], whole[:, empty] = np.nan, np.nan
        found = np.log10(whole[np.ix_(chosen, chosen)] + 1)
        if not np.isfinite(found).any():
            continue
        positions.append((start + chosen) * opened.binsize + opened.binsize // 2)
        contacts.append(found)
    if not positions:
        raise ValueError("no window of the contact map has data: the chromosomes asked for are empty.")
    return ContactWindows(
        torch.from_numpy(np.stack(positions)), torch.from_numpy(np.stack(contacts).astype(np.float32))
    )


def _descend(
    network: ContactNetwork,
    train: ContactWindows,
    held_out: ContactWindows,
    max_epochs: int,
    batch_size: int,
    lr: float,
    seed: int,
) -> dict[str, pd.DataFrame]:
    """Train the network in place; losses by epoch."""
    optimizer = torch.optim.Adam(network.parameters(), lr)

    def minibatches(epoch: int) -> Iterator[np.ndarray]:
        order = np.random.default_rng([seed, epoch]).permutation(len(train.positions))
        yield from np.array_split(order, max(1, len(order) // batch_size))

    def loss(rows: np.ndarray) -> torch.Tensor:
        return contact_loss(network(train.positions[rows]), train.contacts[rows])

    def validate() -> dict[str, float]:
        return {"validation_loss": float(contact_loss(network(held_out.positions), held_out.contacts))}

    outcome = descend(
        loss,
        minibatches,
        optimizer,
        DescendOptions(what="contacts", max_epochs=max_epochs, patience=8, seed=seed),
        describe=lambda rows: f"windows {rows.tolist()}",
        validate=validate,
        modules=[network],
    )
    return outcome.history.frames()


def _compare(model: DistanceContactMap, train: ContactWindows, held_out: ContactWindows) -> dict[str, float]:
    """Correlation with held-out contacts of the network, and of a power law fitted to the training windows."""
    with torch.inference_mode():
        predicted = model.network(held_out.positions).numpy()
    (x, y), (held_x, held_y) = (_pairs(part) for part in (train, held_out))
    rows, columns = np.triu_indices(predicted.shape[1], 1)
    known = np.isfinite(held_out.contacts.numpy()[:, rows, columns])
    network = predicted[:, rows, columns][known]
    slope, intercept = np.polyfit(x, np.log10(np.maximum(10**y - 1, 0.1)), 1)  # zero contacts count as a tenth
    powerlaw = np.log10(10 ** (intercept + slope * held_x) + 1)
    _, distance = np.unique(np.round(held_x, 6), return_inverse=True)
    ceiling = (np.bincount(distance, held_y) / np.bincount(distance))[distance]
    by = {"network": network, "powerlaw": powerlaw, "ceiling": ceiling}
    found = {name: float(np.corrcoef(values, held_y)[0, 1]) for name, values in by.items()}
    return found | {"n_pairs": len(held_y)}


def _pairs(part: ContactWindows) -> tuple[np.ndarray, np.ndarray]:
    """log10 of the distance and log10(contacts + 1) of measured pairs of different bins."""
    rows, columns = np.triu_indices(part.positions.shape[1], 1)
    at, y = part.positions.numpy(), part.contacts.numpy()[:, rows, columns]
    x = np.log10(np.abs(at[:, rows] - at[:, columns]))
    known = np.isfinite(y)
    return x[known], y[known].astype(np.float64)
