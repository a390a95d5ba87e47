"""A matrix as Cell Ranger ARC writes it."""

from __future__ import annotations

import h5py
import numpy as np
from scipy import sparse


def write_10x(path, X, names, feature_types, barcodes, genome="GRCh38"):
    """``filtered_feature_bc_matrix.h5`` of cells × features."""
    matrix = sparse.csc_matrix(X.T)  # features × cells
    with h5py.File(path, "w") as file:
        group = file.create_group("matrix")
        group["barcodes"] = np.array(barcodes, "S")
        group["data"], group["shape"] = matrix.data.astype(np.int32), np.array(matrix.shape, np.int32)
        group["indices"], group["indptr"] = matrix.indices.astype(np.int64), matrix.indptr.astype(np.int64)
        features = group.create_group("features")
        features["id"] = features["name"] = np.array(names, "S")
        features["feature_type"] = np.array(feature_types, "S")
        features["genome"] = np.array([genome] * len(names), "S")
        features["_all_tag_keys"] = np.array(["genome"], "S")
    return path
