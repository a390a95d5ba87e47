"""Which regions regulate a gene: the network's derivatives, accessibility and contacts brought together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scatacformer.metrics import enhancer_scores, powerlaw_contact
from scatacformer.nn import jacobian

from ._state import GETState
from ._windows import focused, site_windows

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from anndata import AnnData

    from ._contacts import DistanceContactMap


class EnhancerMixin(GETState):
    """``score_enhancers`` of :class:`~scatacformer.GET`."""

    def score_enhancers(
        self,
        genes: str | Sequence[str] | None = None,
        groups: str | Sequence[str] | None = None,
        *,
        contact: str | DistanceContactMap | None = "powerlaw",
        adata: AnnData | None = None,
        batch_size: int = 32,
    ) -> pd.DataFrame:
        """Scores of the regions around each gene, each of which sums to 1 over the regions of the gene's window.

        Parameters
        ----------
        genes
            Which genes; None: all that start in a region.
        groups
            Which groups; None: all.
        contact
            ``"powerlaw"``: by the distance to the TSS (see ``sf.metrics.powerlaw_contact``); a
            :class:`~scatacformer.model.DistanceContactMap`; or None: scores without contact.
        adata
            As in :meth:`get_predicted_expression`.
        batch_size
            Windows of a minibatch; the result does not depend on it.

        Returns
        -------
        pandas.DataFrame
            A row for each gene, group and region of its window (for a gene with several TSSs, of each):
            ``gene, group, region, distance`` in bp, signed by position, then the scores of
            ``sf.metrics.enhancer_scores``, and ``score``: ``jacobian_accessibility_contact``, or
            ``jacobian_accessibility`` without contact.

        Raises
        ------
        RuntimeError
            The model is not trained on expression.
        ValueError
            Another ``contact``.
        KeyError
            No such gene or group.
        """
        import pandas as pd

        self._check_target("expression")
        if isinstance(contact, str) and contact != "powerlaw":
            raise ValueError(f"contact is {contact!r}; expected 'powerlaw', a DistanceContactMap or None.")
        prepared = self._prepared_of(adata)
        sites, rows = prepared.sites(genes), prepared.group_rows(groups)
        windows, site, group = site_windows(prepared, sites, rows, self.config_.n_regions, self.open_only_)
        strand, tss = sites["strand"].to_numpy()[site], sites["tss"].to_numpy()[site]
        centre = (prepared.regions.start.astype(np.int64) + prepared.regions.end) // 2
        names, found = np.asarray(prepared.adata.var_names), []
        parts = focused(
            prepared.data, windows, strand, self._accessibility, batch_size, self.module.device, "Scoring enhancers"
        )
        for part in parts:
            slopes, _ = jacobian(self.module, part.x, part.read, part.strand, part.padding, "region_embedding")
            norm, level = slopes.norm(dim=-1).float().cpu().numpy(), part.x[..., -1].cpu().numpy()
            for i, window in enumerate(range(part.rows.start, part.rows.stop)):
                there = part.regions[i] >= 0
                regions = part.regions[i][there]
                distance = centre[regions] - tss[window]
                h = None
                if contact == "powerlaw":
                    h = powerlaw_contact(distance)
                elif contact is not None:
                    h = contact.contacts(centre[regions])[int(part.read[i])]  # type: ignore[union-attr]
                scores = enhancer_scores(norm[i][there], level[i][there], h)
                of = {
                    "gene": sites["gene"].iloc[site[window]],
                    "group": prepared.group_names[group[window]],
                    "region": names[regions],
                    "distance": distance,
                }
                best = "jacobian_accessibility" if h is None else "jacobian_accessibility_contact"
                found.append(pd.DataFrame(of | scores | {"score": scores[best]}))
        return pd.concat(found, ignore_index=True)
