"""What a change of the genome does: regions and motifs knocked out, elements inserted as reporters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from scatacformer.sequence import Motifs, ScanSettings, codes_of, count_kmers, kmer_names, scan_sequences

from ._setup import dense
from ._state import GETState
from ._windows import focused, site_windows, stretches_of

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

    from ._setup import Prepared
    from ._windows import Focused

Names = Sequence["str | Sequence[str]"]


@dataclass(frozen=True)
class Knockout:
    """One perturbation: which regions (columns), which motifs; None: everywhere, or all features of the region."""

    regions: np.ndarray | None
    motifs: np.ndarray | None
    region_label: str
    motif_label: str


class PerturbationMixin(GETState):
    """Getters of :class:`~scatacformer.GET` that change what the network reads."""

    @torch.inference_mode()
    def perturb(
        self,
        regions: str | Names | None = None,
        motifs: str | Names | None = None,
        *,
        genes: str | Sequence[str] | None = None,
        groups: str | Sequence[str] | None = None,
        adata: AnnData | None = None,
        batch_size: int = 64,
    ) -> pd.DataFrame:
        """Predicted change of genes when regions, motifs, or motifs in regions are knocked out.

        A region that is knocked out has no motif and no accessibility; a motif that is knocked out scores zero, in the
        regions named or everywhere. Each entry of ``regions`` and of ``motifs`` is a perturbation of its own, and an
        entry that is a list of names is one of all of them together; with both, every motif is knocked out in every
        region.

        Parameters
        ----------
        regions
            Names of regions (``adata.var_names``). None: the motifs are knocked out everywhere.
        motifs
            Names of motifs. None: the regions are knocked out as a whole.
        genes
            Which genes; None: all those with one of the regions in their window.
        groups
            Which groups; None: all.
        adata
            As in :meth:`get_predicted_expression`.
        batch_size
            Windows of a minibatch; the result does not depend on it.

        Returns
        -------
        pandas.DataFrame
            ``regions, motifs`` (what was knocked out), ``gene, group, reference, perturbed, change``: predicted
            log10(TPM + 1) of the window around the gene, before and after, mean over its TSSs in whose window something
            was changed.

        Raises
        ------
        RuntimeError
            The model is not trained on expression.
        ValueError
            Neither regions nor motifs.
        KeyError
            A name that is not there.
        """
        self._check_target("expression")
        prepared = self._prepared_of(adata)
        knockouts = _knockouts(prepared, regions, motifs)
        sites, rows = prepared.sites(genes), prepared.group_rows(groups)
        windows, site, group = site_windows(prepared, sites, rows, self.config_.n_regions, self.open_only_)
        strand = sites["strand"].to_numpy()[site]
        of_region = _by_region(knockouts, prepared.regions.n_bins)
        found: list[tuple[np.ndarray, ...]] = []
        parts = focused(
            prepared.data, windows, strand, self._accessibility, batch_size, self.module.device, "Perturbing"
        )
        for part in parts:
            reference = self._read(part.x, part.padding, part.read, part.strand)
            for k, here in _affected(part, knockouts, of_region):
                x = _without(part.x[here], part.regions[here], knockouts[k])
                changed = self._read(x, part.padding[here], part.read[here], part.strand[here])
                window = np.arange(part.rows.start, part.rows.stop)[here]
                found.append((np.full(len(window), k), window, reference[here], changed))
        genes_of, groups_of = sites["gene"].to_numpy()[site], np.asarray(prepared.group_names)[group]
        return _table(knockouts, found, genes_of, groups_of)

    @torch.inference_mode()
    def predict_reporter(
        self,
        sequences: Sequence[str] | np.ndarray | AnnData,
        group: str,
        *,
        n_insertions: int = 600,
        adata: AnnData | None = None,
        batch_size: int = 64,
        seed: int = 0,
    ) -> pd.DataFrame:
        """Activity of elements inserted at accessible places of the genome: an in-silico reporter assay.

        The motif scores of an element are added to those of a region that is accessible in the group (no score above
        the largest of its motif), whose accessibility is set to the largest of the group; the prediction there (of the
        stronger strand, or of the group's accessibility) is averaged over random regions, which are the same for all
        elements.

        Parameters
        ----------
        sequences
            Elements as letters, which are scanned as the regions were; or their motif scores, (n, n_motifs), unscaled.
        group
            The cells of the assay.
        n_insertions
            At how many regions each element is inserted; at most as many as are accessible.
        adata
            As in :meth:`get_predicted_expression`.
        batch_size
            Windows of a minibatch; the result does not depend on it.
        seed
            Of the regions.

        Returns
        -------
        pandas.DataFrame
            For each element ``activity``, the mean over insertions; ``sd``, their standard deviation; ``change``, the
            mean difference from the same regions without the element; ``n_insertions``.

        Raises
        ------
        RuntimeError
            The model is not trained.
        ValueError
            Scores of another number of motifs; it is not known how the regions were scanned.
        KeyError
            No such group.

        Notes
        -----
        Source: Fu et al., Nature 2025 (GET). The model sees motifs and nothing of their order or distance in the
        element.
        """
        import pandas as pd

        from scatacformer._io import tqdm

        self._check_target("expression", "accessibility")
        if n_insertions < 1:
            raise ValueError(f"n_insertions is {n_insertions}; expected at least 1.")
        prepared = self._prepared_of(adata)
        names, scores = self._element_scores(sequences)
        elements = torch.from_numpy(scores / self.motif_scale_).to(self.module.device, torch.float32)
        x, padding, read = self._insertion_sites(prepared, group, n_insertions, seed)
        at = torch.arange(len(x), device=x.device)
        largest = torch.from_numpy(dense(prepared.data.motif.max(axis=0)).ravel() / prepared.motif_scale)
        top = torch.maximum(x[at, read, :-1], largest.to(x.device, x.dtype))
        outputs = [0, 1] if self.target_ == "expression" else self._accessibility_outputs(group)
        plain = self._reporter(x, padding, read, outputs, batch_size)
        activity = np.empty((len(elements), len(x)), np.float32)
        for row in tqdm(range(len(elements)), desc="Inserting elements", disable=len(elements) < 20, leave=False):
            changed = x.clone()
            changed[at, read, :-1] = torch.minimum(x[at, read, :-1] + elements[row], top)
            activity[row] = self._reporter(changed, padding, read, outputs, batch_size)
        return pd.DataFrame(
            {
                "activity": activity.mean(1),
                "sd": activity.std(1),
                "change": (activity - plain).mean(1),
                "n_insertions": len(x),
            },
            index=names,
        )

    def _element_scores(self, sequences: Any) -> tuple[Any, np.ndarray]:
        import pandas as pd

        names = sequences.index if isinstance(sequences, pd.Series | pd.DataFrame) else range(len(sequences))
        if isinstance(sequences, np.ndarray | pd.DataFrame) and np.ndim(sequences) == 2:
            scores = np.asarray(sequences, np.float32)
            if scores.shape[1] != len(self.motif_names_):
                raise ValueError(
                    f"the scores are of {scores.shape[1]} motifs, and the model reads {len(self.motif_names_)}."
                )
            return names, scores
        if not self.scanner_:
            raise ValueError(
                "it is not known how the regions were scanned (sf.pp.scan_motifs notes it in adata.uns): hand the motif "
                "scores of the elements, (n, n_motifs), in place of their sequences."
            )
        motifs = Motifs.from_dict(self.scanner_["motifs"])
        keys = ("p_value", "reduce", "cluster_reduce", "pseudocount")
        settings = ScanSettings(*(self.scanner_[key] for key in keys))
        scores, columns = scan_sequences(list(sequences), motifs, settings), list(motifs.columns)
        if k := int(self.scanner_.get("kmers", 0)):
            codes = (codes_of(one) if isinstance(one, str) else one for one in sequences)
            scores, columns = np.hstack([scores, np.sqrt(count_kmers(codes, k))]), [*columns, *kmer_names(k)]
        place = {name: i for i, name in enumerate(columns)}
        return names, scores[:, [place[name] for name in self.motif_names_]]

    def _insertion_sites(
        self, prepared: Prepared, group: str, n: int, seed: int
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Windows around random accessible regions, with the accessibility of these set to the largest of the group."""
        row = int(prepared.group_rows(group)[0])
        level = prepared.data.accessibility[row]
        level = np.asarray(level.toarray() if hasattr(level, "toarray") else level).ravel()
        opened = np.flatnonzero(level > 0)
        chosen = np.sort(np.random.default_rng(seed).choice(opened, min(n, len(opened)), replace=False))
        stretches = stretches_of(prepared, np.array([row]), self.open_only_)
        windows = stretches.centred(np.full(len(chosen), row), chosen, self.config_.n_regions)
        strand = np.zeros(len(chosen), np.int64)
        parts = list(focused(prepared.data, windows, strand, self._accessibility, 256, self.module.device))
        x, padding, read = (torch.cat([getattr(part, name) for part in parts]) for name in ("x", "padding", "read"))
        x[torch.arange(len(x), device=x.device), read, -1] = (
            float(level.max()) if self._accessibility == "quantitative" else 1.0
        )
        return x, padding, read

    def _reporter(
        self, x: torch.Tensor, padding: torch.Tensor, read: torch.Tensor, outputs: list[int], batch_size: int
    ) -> np.ndarray:
        """The largest of these outputs at each window's region."""
        found = []
        for first in range(0, len(x), batch_size):
            part = slice(first, first + batch_size)
            found.append(self.module(x[part], padding[part], read=read[part][:, None])[:, 0, outputs].amax(-1))
        return torch.cat(found).float().cpu().numpy()

    def _read(self, x: torch.Tensor, padding: torch.Tensor, read: torch.Tensor, strand: torch.Tensor) -> np.ndarray:
        """Prediction of one strand of one region of each window, (B,)."""
        out = self.module(x, padding, read=read[:, None])[:, 0]
        return out.gather(1, strand[:, None])[:, 0].float().cpu().numpy()


def _table(
    knockouts: list[Knockout], found: list[tuple[np.ndarray, ...]], genes: np.ndarray, groups: np.ndarray
) -> pd.DataFrame:
    """One row for each knock-out, gene and group; ``found`` has knock-out, window, prediction before and after."""
    import pandas as pd

    columns = ["regions", "motifs", "gene", "group", "reference", "perturbed", "change"]
    if not found:
        return pd.DataFrame(columns=columns)
    k, window, before, after = (np.concatenate(column) for column in zip(*found, strict=True))
    table = pd.DataFrame(
        {
            "knockout": k,
            "regions": np.array([one.region_label for one in knockouts], object)[k],
            "motifs": np.array([one.motif_label for one in knockouts], object)[k],
            "gene": genes[window],
            "group": groups[window],
            "reference": before,
            "perturbed": after,
        }
    )
    keys = ["knockout", "regions", "motifs", "gene", "group"]
    table = table.groupby(keys, sort=False)[["reference", "perturbed"]].mean().reset_index()
    table["change"] = table["perturbed"] - table["reference"]
    return table.sort_values("knockout", kind="stable")[columns].reset_index(drop=True)


def _knockouts(prepared: Prepared, regions: str | Names | None, motifs: str | Names | None) -> list[Knockout]:
    if regions is None and motifs is None:
        raise ValueError("name regions, motifs, or both: there is nothing to knock out.")
    region_sets: list[tuple[np.ndarray | None, str]]
    region_sets = [(prepared.region_columns(names), ", ".join(names)) for names in _sets(regions)]
    motif_sets: list[tuple[np.ndarray | None, str]]
    motif_sets = [(prepared.motif_columns(names), ", ".join(names)) for names in _sets(motifs)]
    everywhere: list[tuple[np.ndarray | None, str]] = [(None, "")]
    region_sets, motif_sets = region_sets or everywhere, motif_sets or everywhere
    return [Knockout(r, m, r_label, m_label) for r, r_label in region_sets for m, m_label in motif_sets]


def _sets(names: str | Names | None) -> list[list[str]]:
    if names is None:
        return []
    entries = [names] if isinstance(names, str) else list(names)
    return [[str(entry)] if isinstance(entry, str) else [str(name) for name in entry] for entry in entries]


def _by_region(knockouts: list[Knockout], n_regions: int) -> dict[int, list[int]]:
    """Region to the knockouts that touch it; those that are everywhere are under -1."""
    found: dict[int, list[int]] = {}
    for k, one in enumerate(knockouts):
        for region in [-1] if one.regions is None else one.regions.tolist():
            found.setdefault(region, []).append(k)
    return found


def _affected(
    part: Focused, knockouts: list[Knockout], of_region: dict[int, list[int]]
) -> Iterator[tuple[int, np.ndarray]]:
    """Each knockout that changes a window of the minibatch, and which windows."""
    touched = set(of_region.get(-1, ()))
    for region in np.unique(part.regions[part.regions >= 0]).tolist():
        touched.update(of_region.get(region, ()))
    for k in sorted(touched):
        regions = knockouts[k].regions
        here = (
            np.arange(len(part.regions)) if regions is None else np.flatnonzero(np.isin(part.regions, regions).any(1))
        )
        yield k, here


def _without(x: torch.Tensor, regions: np.ndarray, knockout: Knockout) -> torch.Tensor:
    """Windows (B, R, n_features) with the knocked-out entries set to zero; a copy."""
    x = x.clone()
    where = regions >= 0 if knockout.regions is None else np.isin(regions, knockout.regions)
    window, place = (torch.from_numpy(index).to(x.device) for index in np.nonzero(where))
    if knockout.motifs is None:
        x[window, place] = 0
    else:
        motifs = torch.from_numpy(knockout.motifs).to(x.device)
        x[window[:, None], place[:, None], motifs[None]] = 0
    return x
