"""The ``<eos>`` of each region: that of its chromosome, or those of its genomic classes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from scipy.sparse import csr_matrix

from scatacformer.genome import RegionClasses, gather_chroms

if TYPE_CHECKING:
    from collections.abc import Mapping

    from anndata import AnnData

    from scatacformer.genome import Vocabulary

EOS = ("chromosome", "region_class")


class Readers(NamedTuple):
    """Description of the ``<eos>`` for the network."""

    names: list[str]  # name of each <eos>, (n_eos,)
    group: torch.Tensor  # (n_bins,) int64: regions with the same <eos>
    shares: torch.Tensor | None  # (n_groups, n_eos) float32, rows sum to 1; None: group g has <eos> g


def readers_of(vocabulary: Vocabulary, classes: RegionClasses | None) -> Readers:
    """An ``<eos>`` for each class, or without classes for each chromosome.

    Small scaffolds of a genome in more than 64 pieces share one: attention to 3,000 ``<eos>`` takes 60 times as long.
    """
    if classes is None:
        names, group_of_chrom = gather_chroms(vocabulary)
        return Readers(list(names), torch.from_numpy(group_of_chrom[vocabulary.chrom]), None)
    sets = classes.sets()
    members = torch.from_numpy(sets.members).float()
    return Readers(list(classes.names), torch.from_numpy(sets.set_of_bin), members / members.sum(1, keepdim=True))


def classes_to_read(
    eos: str, classes: RegionClasses | None, annotated: AnnData | None, vocabulary: Vocabulary
) -> RegionClasses | None:
    """The classes of a model's regions: those passed, or those of ``pp.annotate_bins``; None by chromosome.

    Raises ValueError for another ``eos``, for regions without classes, and for classes of other regions.
    """
    if eos not in EOS:
        raise ValueError(f"eos is {eos!r}; expected one of {EOS}.")
    if eos == "chromosome":
        if classes is not None:
            raise ValueError("region_classes are given with eos='chromosome'; expected eos='region_class'.")
        return None
    if classes is None:
        if annotated is None:
            raise ValueError("region_classes are missing. Without adata, a model with eos='region_class' needs them.")
        classes = RegionClasses.from_anndata(annotated)
    if classes.n_bins != vocabulary.n_bins:
        raise ValueError(
            f"region_classes are for {classes.n_bins:,} regions, but adata has {vocabulary.n_bins:,}. Annotate these: "
            "sf.pp.annotate_bins(adata, gtf='gencode.gtf.gz')."
        )
    return classes


def saved_classes(weights: Mapping[str, torch.Tensor], attributes: dict[str, Any]) -> RegionClasses:
    """The classes that were saved with a model: the group of each region, and the ``<eos>`` of each group."""
    members = csr_matrix((weights["decoder.readers"] > 0).numpy())
    return RegionClasses(tuple(attributes["eos_names_"]), members[weights["group"].numpy()])
