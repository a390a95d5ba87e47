"""Files and folders that are whole or old, tensors without code, folders of the hub, JSON, model cards."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scatacformer._lazy import lazy

if TYPE_CHECKING:
    from .card import CardFacts, model_card, table
    from .checkpoint import check_zip, read_checkpoint
    from .errors import in_words, reading, writing
    from .files import (
        holds_nothing,
        inside,
        partial_of,
        put_in_place,
        read_json,
        refuse_to_replace,
        remove,
        remove_dead_partials,
        scratch_folder,
        sha256,
        sync_folder,
        whole_file,
    )
    from .folder import FolderWriter, alone, listed_file, read_whole, refuse_altered, whole_folder
    from .hdf5 import check_hdf5
    from .html import html_table
    from .hub import folder_of
    from .packages import optional, snapatac2
    from .plain import decode, encode
    from .progress import tqdm
    from .tensors import (
        TensorShape,
        check_finite,
        check_tensors,
        read_tensors,
        refuse_pointer,
        tensor_shapes,
        write_tensors,
    )
    from .unpack import open_unpacked, read_unpacked

__all__ = [
    "CardFacts",
    "FolderWriter",
    "TensorShape",
    "alone",
    "check_finite",
    "check_hdf5",
    "check_tensors",
    "check_zip",
    "decode",
    "encode",
    "folder_of",
    "holds_nothing",
    "html_table",
    "in_words",
    "inside",
    "listed_file",
    "model_card",
    "open_unpacked",
    "optional",
    "partial_of",
    "put_in_place",
    "read_checkpoint",
    "read_json",
    "read_tensors",
    "read_unpacked",
    "read_whole",
    "reading",
    "refuse_altered",
    "refuse_pointer",
    "refuse_to_replace",
    "remove",
    "remove_dead_partials",
    "scratch_folder",
    "sha256",
    "snapatac2",
    "sync_folder",
    "table",
    "tensor_shapes",
    "tqdm",
    "whole_file",
    "whole_folder",
    "write_tensors",
    "writing",
]
_FILES = {
    "card": ("CardFacts", "model_card", "table"),
    "checkpoint": ("check_zip", "read_checkpoint"),
    "errors": (
        "in_words",
        "reading",
        "writing",
    ),
    "files": (
        "holds_nothing",
        "inside",
        "partial_of",
        "put_in_place",
        "read_json",
        "refuse_to_replace",
        "remove",
        "remove_dead_partials",
        "scratch_folder",
        "sha256",
        "sync_folder",
        "whole_file",
    ),
    "folder": (
        "FolderWriter",
        "alone",
        "listed_file",
        "read_whole",
        "refuse_altered",
        "whole_folder",
    ),
    "hdf5": ("check_hdf5",),
    "html": ("html_table",),
    "hub": ("folder_of",),
    "packages": ("optional", "snapatac2"),
    "progress": ("tqdm",),
    "plain": (
        "decode",
        "encode",
    ),
    "tensors": (
        "TensorShape",
        "check_finite",
        "check_tensors",
        "read_tensors",
        "refuse_pointer",
        "tensor_shapes",
        "write_tensors",
    ),
    "unpack": (
        "open_unpacked",
        "read_unpacked",
    ),
}
_FILE_OF = {name: file for file, names in _FILES.items() for name in names}

__getattr__, __dir__ = lazy(__name__, __all__, _FILE_OF)
