"""Whether regions are open more often in one group of cells than in another, given the cells' depths."""

from __future__ import annotations

import numpy as np

AT_ONCE = 20_000
N_NEWTON = 12
RARE = 30  # open cells up to which the exact conditional test is taken


def score_test(
    n_open: np.ndarray, n_cells: np.ndarray, depth: np.ndarray, batch: np.ndarray | None = None
) -> np.ndarray:
    """Two-sided p-values of no difference between two groups.  (n_regions,)

    ``n_open`` (n_strata, 2, n_regions) cells that have a region open, ``n_cells`` (n_strata, 2) cells, ``depth``
    (n_strata, 2) their mean number of open regions, ``batch`` (n_strata,) the batch of a stratum: each has a rate r of
    its own. A cell has the region open with probability p = 1 - exp(-r depth). With the rate r exp(b) in group 2, the
    score of b at 0 is::

        U = sum (x - n p) h / p           over the strata of group 2, h = r depth V = I_bb - I_br^2 / I_rr          I:
        sums of n h^2 (1 - p) / p, for I_bb and I_br over group 2, for I_rr over both

    and U^2 / V is chi-squared with one degree of freedom (Cox and Hinkley 1974, 9.3). With batches U and V are sums
    over them. A region that is open in at most 30 cells, for which that is not exact, is tested by the number of them
    that is in group 2, given their number: Fisher's exact test, with the odds that the depths make likely.
    """
    from scipy.stats import chi2

    batch = np.zeros(len(n_cells), int) if batch is None else batch
    p_value = np.ones(n_open.shape[2])
    for start in range(0, len(p_value), AT_ONCE):
        part = n_open[:, :, start : start + AT_ONCE].astype(np.float64)
        score, information = np.zeros((2, part.shape[2]))
        for one in np.unique(batch):
            u, v = _score(part[batch == one], n_cells[batch == one], depth[batch == one])
            score += u
            information += v
        here = chi2.sf(score**2 / np.maximum(information, 1e-12), 1)
        here[information <= 1e-12] = 1.0
        rare = np.flatnonzero(part.sum((0, 1)) <= RARE)
        here[rare] = _exact(part[:, :, rare], n_cells, depth, batch)
        p_value[start : start + AT_ONCE] = here
    return p_value


def _score(x: np.ndarray, n: np.ndarray, depth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """U and V of one batch."""
    n, depth = n[:, :, None], depth[:, :, None]
    total = x.sum((0, 1))
    rate = _rate(total, n, depth)
    h = rate * depth
    p = np.maximum(-np.expm1(-h), 1e-12)
    weight = n * h**2 * (1 - p) / p
    of_2, of_both = weight[:, 1].sum(0), weight.sum((0, 1))
    # x h / p is the score of log r at its maximum only where all h / p are equal: the rest is taken out with I_br /
    # I_rr
    residual = (x - n * p) * h / p
    score = residual[:, 1].sum(0) - of_2 / np.maximum(of_both, 1e-12) * residual.sum((0, 1))
    return score, of_2 - of_2**2 / np.maximum(of_both, 1e-12)


def _rate(total: np.ndarray, n: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """The rate by which as many cells are open as were seen, ``total`` (n_regions,); ``n``, ``depth`` (strata, 2,
    1)."""
    rate = total / np.maximum((n * depth).sum(), 1e-12)
    # increasing and concave, so Newton from below converges
    for _ in range(N_NEWTON):
        closed = np.exp(-rate * depth)
        rate = rate + (total - (n * (1 - closed)).sum((0, 1))) / np.maximum((n * depth * closed).sum((0, 1)), 1e-12)
        rate = rate.clip(0, 50 / max(depth.max(), 1e-12))
    return rate


def _exact(x: np.ndarray, n: np.ndarray, depth: np.ndarray, batch: np.ndarray) -> np.ndarray:
    """Conditional on the number of cells in which it is open in each batch: twice the smaller tail of the number in
    group 2.

    That number is noncentral hypergeometric (Fisher 1935), its odds ratio that of the two groups' mean p; over batches
    the laws are convolved.
    """
    from scipy.special import gammaln

    count = np.arange(RARE + 1)

    def log_choose(of: float, k: np.ndarray) -> np.ndarray:
        inside = (k >= 0) & (k <= of)
        k = np.where(inside, k, 0)
        return np.where(inside, gammaln(of + 1) - gammaln(k + 1) - gammaln(of - k + 1), -np.inf)

    law = np.zeros((x.shape[2], RARE + 1))  # of the open cells in group 2
    law[:, 0] = 1.0
    for one in np.unique(batch):
        here = batch == one
        cells, strata, depths = n[here].sum(0), n[here][:, :, None], depth[here][:, :, None]
        total = x[here].sum((0, 1))
        if not (cells > 0).all():  # no cell of one group: all open cells are in the other
            of_batch = (count == np.where(cells[0] > 0, 0, total)[:, None]).astype(float)
        else:
            p = (strata * -np.expm1(-_rate(total, strata, depths) * depths)).sum(0) / cells[:, None]  # (2, n_regions)
            p = p.clip(1e-12, 1 - 1e-9)
            log_odds = np.log(p[1] / (1 - p[1])) - np.log(p[0] / (1 - p[0]))
            log_law = log_choose(cells[1], count)[None] + log_choose(cells[0], total[:, None] - count)
            log_law = log_law + np.where(total > 0, log_odds, 0.0)[:, None] * count
            of_batch = np.exp(log_law - log_law.max(1, keepdims=True))
            of_batch /= of_batch.sum(1, keepdims=True)
        law = np.stack([(law[:, : k + 1] * of_batch[:, k::-1]).sum(1) for k in count], 1)
    seen = x[:, 1].sum(0)[:, None]
    below, above = (law * (count <= seen)).sum(1), (law * (count >= seen)).sum(1)
    return np.minimum(1.0, 2 * np.minimum(below, above))


def benjamini_hochberg(p_value: np.ndarray) -> np.ndarray:
    """Smallest false discovery rate at which each is found (Benjamini and Hochberg 1995).  (n,)"""
    from scipy.stats import false_discovery_control

    return false_discovery_control(p_value) if len(p_value) else p_value
