"""Reading of cells with the network of pairs, beside that of the ATAC: latent space, expression, links."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp
import torch

from scatacformer.cells import log_normalised

from ._fit_pairs import CELLS_AT_ONCE, ragged
from ._genes import gene_columns

if TYPE_CHECKING:
    from scatacformer.cells import PairedCells
    from scatacformer.model.scatacformer._reader import Reader
    from scatacformer.nn import LinkAttention, PairedNetwork

ROWS_OF_LINKS = 128  # cells x the bins that genes attend to, dense at a time


@torch.inference_mode()
def chromatin(
    reader: Reader, network: PairedNetwork | None, rows: np.ndarray, batch_size: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Inputs of the ATAC encoders: the transformer's embedding of cells (n_cells, d_embed), for the teacher, and that
    of the student, which is empty without a network of pairs."""
    teacher, student = [], []
    for batch in reader.minibatches(rows, batch_size):
        teacher.append(reader.network.embed(batch).float().cpu().numpy())
        if network is not None:
            student.append(network.bins(batch["bins"], batch["cu_seqlens"]).cpu().numpy())
    empty = [np.empty((0, reader.network.config.d_embed), np.float32)]
    return np.concatenate(teacher or empty), np.concatenate(student or empty)


@dataclass(frozen=True)
class PairsReader:
    """Reads cells of a source with both networks. Row numbers are those of the ATAC."""

    atac: Reader
    network: PairedNetwork
    genes: list[str]  # names of the model's genes
    cells: PairedCells | None  # None: cells of an AnnData, without RNA

    @torch.inference_mode()
    def latent(self, rows: np.ndarray, modality: str | None, batch_size: int | None = None) -> np.ndarray:
        """Unit vectors in the joint space.  (n_cells, 2 d_latent) float32; see ``get_latent_representation``."""
        has_rna = np.zeros(len(rows), bool)
        if self.cells is not None and self.cells.rna is not None:
            has_rna = self.cells.has_rna[rows]
        modality = modality or ("joint" if has_rna.any() else "accessibility")
        if modality == "expression" and not has_rna.all():
            raise ValueError(
                f"{int((~has_rna).sum()):,} of {len(rows):,} cells have no RNA. Use modality='accessibility', or "
                "'joint', which is that of the measured modality for cells that lack one."
            )
        out = np.zeros((len(rows), 2 * self.network.config.d_latent), np.float32)
        if modality != "expression":
            out += self.atac_latent(*self.chromatin(rows, batch_size))
        if modality != "accessibility" and has_rna.any():
            out[has_rna] += self.rna_latent(rows[has_rna])
        return out / np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-12)

    def distance(self, rows: np.ndarray) -> np.ndarray:
        """1 - cosine of the two modalities of each cell.  (n_cells,) float32"""
        rna, atac = (self.latent(rows, modality) for modality in ("expression", "accessibility"))
        return (1 - (rna * atac).sum(1)).clip(0, 2)  # against rounding

    def chromatin(self, rows: np.ndarray, batch_size: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Inputs of the ATAC encoders: of the teacher (n_cells, d_embed), of the student (n_cells, d_rna)."""
        return chromatin(self.atac, self.network, rows, batch_size)

    @torch.inference_mode()
    def rna_latent(self, rows: np.ndarray) -> np.ndarray:
        """Embedding of the RNA.  (n_cells, 2 d_latent)"""
        cells, network, device = self.with_rna(), self.network, self.atac.network.device
        columns, parts = gene_columns(cells, self.genes), []
        for first in range(0, len(rows), CELLS_AT_ONCE):
            part = rows[first : first + CELLS_AT_ONCE]
            # normalised by all measured genes, then restricted to those of the model
            values = log_normalised(cells.expression(part), float(network.genes.target)) @ columns
            places, counts, cell = (t.to(device) for t in ragged(values.tocsr()))
            batch = torch.from_numpy(self.atac.batch_codes[part]).to(device)
            teacher, student = (
                network.rna_inputs(places, counts, cell, batch, attention) for attention in (True, False)
            )
            parts.append(network.joined(teacher, student, "rna").cpu().numpy())
        return np.concatenate(parts)

    @torch.inference_mode()
    def atac_latent(self, teacher: np.ndarray, student: np.ndarray) -> np.ndarray:
        """Embedding of the ATAC, from :meth:`chromatin`.  (n_cells, 2 d_latent)"""
        network, device, parts = self.network, self.atac.network.device, []
        for first in range(0, len(teacher), CELLS_AT_ONCE):
            part = slice(first, first + CELLS_AT_ONCE)
            z, guess = (torch.from_numpy(x[part]).to(device) for x in (teacher, student))
            parts.append(network.joined(network.atac_inputs(z), guess, "atac").cpu().numpy())
        return np.concatenate(parts) if parts else np.empty((0, 2 * network.config.d_latent), np.float32)

    @torch.inference_mode()
    def expression(
        self, rows: np.ndarray, genes: np.ndarray | None, batch_size: int | None, return_std: bool = False
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Predicted expression and, if requested, its standard deviation; of all genes, or of those with these numbers.

        (n_cells, n_genes) float32 each
        """
        network, device = self.network, self.atac.network.device
        at = None if genes is None else torch.as_tensor(genes, device=device)
        mean = np.empty((len(rows), len(self.genes) if genes is None else len(genes)), np.float32)
        std = np.empty_like(mean) if return_std else None
        teacher, student = self.chromatin(rows, batch_size)
        for first in range(0, len(rows), CELLS_AT_ONCE):
            part = slice(first, first + CELLS_AT_ONCE)
            z, guess = (torch.from_numpy(x[part]).to(device) for x in (teacher, student))
            found = network.expression(network.atac_inputs(z), guess, at)
            mean[part] = found[0].cpu().numpy()
            if network.links is not None:
                m = self.expected(network.links, rows[part], network.atac_inputs(z).cpu().numpy())
                added = m * network.links.gene_deviation  # m is weighted by how reliable it is
                mean[part] += (added if at is None else added[:, at]).cpu().numpy()
                np.maximum(mean[part], 0.0, out=mean[part])
            if std is not None:
                std[part] = found[1].cpu().numpy()
        return mean, std

    def gene_values(self, rows: np.ndarray) -> sp.csr_matrix:
        """log(1 + counts per 10,000) of the model's genes.  (n_cells, n_genes) CSR"""
        cells = self.with_rna()
        return sp.csr_matrix(log_normalised(cells.expression(rows)) @ gene_columns(cells, self.genes))

    def state(self, rows: np.ndarray) -> np.ndarray:
        """The state of chromatin beyond which links predict expression.  (n_cells, d_atac) float64"""
        z = torch.from_numpy(self.chromatin(rows)[0]).to(self.atac.network.device)
        return self.network.atac_inputs(z).cpu().numpy().astype(np.float64)

    @torch.inference_mode()
    def expected(self, links: LinkAttention, rows: np.ndarray, state: np.ndarray) -> torch.Tensor:
        """M of the link attention, from the linked bins of each cell.  (n_cells, n_genes)"""
        source, device = self.atac.source, self.atac.network.device
        tokens, at_token = np.unique(links.bins.cpu().numpy(), return_inverse=True)
        place = torch.from_numpy(at_token.reshape(links.bins.shape)).to(device)
        column = np.full(source.n_bins, -1, np.int64)
        column[tokens] = np.arange(len(tokens))
        parts = []
        for first in range(0, len(rows), ROWS_OF_LINKS):
            found = source.rows(rows[first : first + ROWS_OF_LINKS])
            cell, at = np.repeat(np.arange(len(found.indptr) - 1), np.diff(found.indptr)), column[found.bins]
            opened = torch.zeros(len(found.indptr) - 1, len(tokens))
            opened[cell[at >= 0], at[at >= 0]] = 1.0
            design = np.column_stack([np.ones(len(opened)), state[first : first + ROWS_OF_LINKS]]).astype(np.float32)
            parts.append(links.expected(opened.to(device)[:, place], torch.from_numpy(design).to(device)))
        return torch.cat(parts)

    def with_rna(self) -> PairedCells:
        """The cells, which must have RNA."""
        assert self.cells is not None
        return self.cells
