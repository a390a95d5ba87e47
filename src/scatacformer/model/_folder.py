"""A model's folder: one layout for all models, each as a whole or not there.

::

    config.json               what the model is; names and checksums of the other files
    model.safetensors         weights
    vocabulary.bed.gz         regions, for a model that has a vocabulary
    <table>.safetensors       tables that are not weights, such as DNA embeddings of regions
    adata.h5ad                the AnnData, where the user asked for it
    README.md, ...            notes for readers

``config.json`` is written last: whatever interrupts :func:`write`, the folder holds the earlier model or the new one
(``_io.folder`` has the mechanism). Nothing that is read is executed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any

from scatacformer._io import (
    FolderWriter,
    check_finite,
    check_tensors,
    decode,
    encode,
    listed_file,
    read_json,
    read_tensors,
    read_whole,
    reading,
    refuse_altered,
    refuse_pointer,
    sha256,
    whole_folder,
)
from scatacformer.genome import Vocabulary, overlaps_allowed

if TYPE_CHECKING:
    from anndata import AnnData
    from torch import Tensor, nn

FORMAT = 1
CONFIG, WEIGHTS, VOCABULARY, DATA = "config.json", "model.safetensors", "vocabulary.bed.gz", "adata.h5ad"
CARD, SCVI_METADATA = "README.md", "_scvi_required_metadata.json"
TABLES = ("dna.safetensors",)  # of all models
TRAVELS = (CONFIG, WEIGHTS, VOCABULARY, *TABLES, CARD, SCVI_METADATA)  # what is downloaded and uploaded: no cells
_OWNS = (WEIGHTS, VOCABULARY, *TABLES, DATA, CARD, SCVI_METADATA)
_KEYS: dict[str, type | UnionType] = {  # of config.json
    "format": int, "class": str, "versions": dict, "assembly": str | None, "vocabulary": str | None, "network": dict,
    "state": dict, "sha256": dict,
}  # fmt: skip
_KINDS: dict[Any, str] = {int: "an integer", str: "a string", dict: "an object"}


@dataclass(frozen=True)
class ModelFiles:
    """What a model consists of on disk: given to :func:`write`, returned by :func:`read`.

    ``class_name`` of the model; ``network``, the sizes that define its network, as JSON; ``weights``, its
    ``state_dict``; ``state``, everything else that is saved: dicts, lists, numbers, strings, NumPy arrays and
    DataFrames; ``vocabulary``, its regions; ``tables``, tensors by the name of their file (``TABLES``, without its
    ending), for what is not part of ``weights``; ``adata``, data to save with it, or after :func:`read` the path of
    that file.
    """

    class_name: str
    network: dict[str, Any]
    weights: Mapping[str, Tensor]
    state: dict[str, Any]
    vocabulary: Vocabulary | None = None
    tables: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)
    adata: AnnData | Path | None = None
    path: Path | None = None  # of the config.json that was read, for messages
    adata_sha256: str | None = None  # of the file that was written, where `adata` is one
    content: Mapping[str, Any] = field(default_factory=dict)  # of the config.json that was read, as it is

    def read_adata(self) -> AnnData:
        """The AnnData that was saved with the model. ValueError if there is none."""
        import anndata

        if not isinstance(self.adata, Path):
            where = "" if self.path is None else f" (in {self.path.parent})"
            raise ValueError(
                f"Save path contains no saved anndata and no adata was passed{where}. Pass adata, or adata=False to load "
                "the model without data."
            )
        with reading(self.adata, "an .h5ad file"):
            if self.adata_sha256 is not None and sha256(self.adata) != self.adata_sha256:
                raise ValueError(f"its checksum differs from {CONFIG}'s.")
            return anndata.read_h5ad(self.adata)

    def check_content(self) -> None:
        """Refuse a config.json in which anything differs from what was written: the last of all checks, because the
        others say what differs."""
        refuse_altered(self.path or Path(CONFIG), self.content)

    def check_layers(self, **n_layers: int) -> None:
        """Refuse a number of layers that the weights cannot have, before modules are created, one by one, for them."""
        for name, n in n_layers.items():
            if n > len(self.weights):
                raise ValueError(
                    f"{self.path}: the network has {name}={n:,}, and the weights are {len(self.weights)} tensors: they "
                    "are not of one model. Copy the folder again."
                )

    def check_weights(self, build: Callable[[], nn.Module], **beside: Callable[[], nn.Module]) -> None:
        """Compare the sizes of the weights with those of the network that ``build`` returns, and of others beside it.

        The names of the weights of the network ``x`` beside it begin with ``"x."``. Networks are built on torch's meta
        device: nothing is allocated. ValueError that names the tensors that differ.
        """
        import torch

        with torch.device("meta"):
            expected = {name: tensor.shape for name, tensor in build().state_dict().items()}
            for part, build_part in beside.items():
                expected |= {f"{part}.{name}": tensor.shape for name, tensor in build_part().state_dict().items()}
        where = (self.path or Path(CONFIG)).with_name(WEIGHTS)
        check_tensors(where, {name: tensor.shape for name, tensor in self.weights.items()}, expected)


def write(
    folder: str | os.PathLike,
    files: ModelFiles,
    prefix: str | None = None,
    overwrite: bool = False,
    notes: Callable[[dict[str, str]], Mapping[str, str]] | None = None,
    **anndata_write_kwargs: Any,
) -> Path:
    """Write a model to ``folder``, which is created if needed; the earlier one stays until the new one is whole.

    Parameters
    ----------
    folder, files
        Where, and what.
    prefix
        Put before the name of each file, so that several models fit in one folder.
    overwrite
        Whether an earlier model of the same prefix may be replaced. ValueError if not, and there is one.
    notes
        Function of name -> SHA-256 of the model's files that returns name -> text of what is for readers: ``README.md``
        and the metadata of scvi-tools' hub.
    **anndata_write_kwargs
        For writing ``files.adata``.
    """
    folder, prefix = Path(folder), prefix or ""
    tables = [f"{name}.safetensors" for name in files.tables]
    if strange := sorted(set(tables) - set(TABLES)):
        raise ValueError(f"a model's folder has no place for {', '.join(strange)}; TABLES lists what it may hold.")
    beside = ("tokenizer_config.json",)  # a tokenizer may share the vocabulary
    with whole_folder(folder, CONFIG, _OWNS, prefix=prefix, overwrite=overwrite, beside=beside) as writer:
        _write_tensors(writer, WEIGHTS, files.weights)
        if files.vocabulary is not None:
            _write_vocabulary(writer, files.vocabulary)
        for name, tensors in files.tables.items():
            _write_tensors(writer, f"{name}.safetensors", tensors)
        if files.adata is not None:
            _write_adata(writer, files.adata, anndata_write_kwargs)
        for name, text in (notes(dict(writer.sums)) if notes else {}).items():
            with writer.file(name) as partial:
                partial.write_text(text, encoding="utf-8")
        writer.point(_description(files))
    return folder


def read(folder: str | os.PathLike, class_name: str, prefix: str | None = None) -> ModelFiles:
    """The model in ``folder``, every file checked against the checksum in ``config.json``.

    Raises ValueError for a folder that is not a saved ``class_name``, and for files that are missing, truncated or
    altered, or do not belong together.
    """
    folder, prefix = Path(folder), prefix or ""
    return read_whole(folder / (prefix + CONFIG), lambda: _read(folder, class_name, prefix))


def read_config(folder: Path, class_name: str, prefix: str = "") -> dict[str, Any]:
    """``config.json`` of a saved model, checked; ValueError that says what the folder is instead."""
    path = folder / (prefix + CONFIG)
    if not path.exists():
        found = sorted(p.name for p in folder.iterdir())[:5] if folder.is_dir() else "no such folder"
        raise ValueError(
            f"{folder} is not a saved {class_name}: it has no {prefix + CONFIG} (found: {found}). "
            "A model.pt is of another class of scvi-tools: load it with that."
        )
    config = read_json(path)
    if missing := sorted(_KEYS.keys() - config.keys()):
        named = config.get("architectures") or config.get("model_type")
        what = f" It is of another class, {' '.join(named) if isinstance(named, list) else named}." if named else ""
        what += " Read it with sf.Atacformer." if config.get("model_type") == "atacformer" else ""
        raise ValueError(f"{path} is not of a saved {class_name}: it lacks {', '.join(missing)}.{what}.")
    for name, kind in _KEYS.items():
        if not isinstance(config[name], kind):
            expected = _KINDS.get(kind, "a string or null")
            raise ValueError(f"{path} is damaged: {name} is {config[name]!r:.60}, expected {expected}.")
    if config["format"] > FORMAT:
        raise ValueError(f"{path} has format {config['format']}, expected at most {FORMAT}; update scatacformer.")
    if config["class"] != class_name:
        raise ValueError(f"{folder} holds a {config['class']}, expected a {class_name}.")
    with reading(path, "the configuration of a model"):
        return decode(config)


def _description(files: ModelFiles) -> dict[str, Any]:
    vocabulary = files.vocabulary
    return {
        "format": FORMAT,
        "class": files.class_name,
        "versions": {name: version(name) for name in ("scatacformer", "scvi-tools", "torch")},
        "assembly": None if vocabulary is None else vocabulary.assembly,
        "vocabulary": None if vocabulary is None else vocabulary.checksum,
        "network": json.loads(json.dumps(encode(files.network))),
        "state": encode(files.state),
    }


def _write_tensors(writer: FolderWriter, name: str, tensors: Mapping[str, Tensor]) -> None:
    from safetensors.torch import save_file

    with writer.file(name) as partial:
        save_file({key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}, partial)


def _write_vocabulary(writer: FolderWriter, vocabulary: Vocabulary) -> None:
    with writer.file(VOCABULARY) as partial, overlaps_allowed():
        vocabulary.to_bed(partial, packed=True)


def _write_adata(writer: FolderWriter, adata: Any, kwargs: dict[str, Any]) -> None:
    from anndata.io import write_h5ad

    with writer.file(DATA) as partial:
        # not adata.write_h5ad, which makes a backed AnnData point to the file that it wrote, and this one is renamed
        write_h5ad(partial, adata, **kwargs)


def _read(folder: Path, class_name: str, prefix: str) -> ModelFiles:
    config = read_config(folder, class_name, prefix)
    sums, paths = config["sha256"], {}
    for name in (WEIGHTS, VOCABULARY, *TABLES):
        required = name == WEIGHTS or (name == VOCABULARY and config["vocabulary"] is not None)
        if not required and name not in sums:
            continue
        path = listed_file(folder, name, sums, prefix)
        if not path.exists():
            raise ValueError(f"{path} is missing; copy the whole folder.")
        refuse_pointer(path)
        if sha256(path) != sums.get(name):
            raise ValueError(f"{path} is truncated or was altered: its checksum differs from {CONFIG}'s.")
        paths[name] = path
    weights = read_tensors(paths[WEIGHTS])
    check_finite(paths[WEIGHTS], weights)
    tables = {name.removesuffix(".safetensors"): read_tensors(paths[name]) for name in TABLES if name in paths}
    adata = listed_file(folder, DATA, sums, prefix) if DATA in sums else None
    return ModelFiles(
        config["class"], config["network"], weights, config["state"], _read_vocabulary(paths.get(VOCABULARY), config),
        tables, adata if adata is not None and adata.exists() else None, folder / (prefix + CONFIG), sums.get(DATA), read_json(folder / (prefix + CONFIG)),
    )  # fmt: skip


def _read_vocabulary(path: Path | None, config: dict[str, Any]) -> Vocabulary | None:
    if path is None:
        return None
    with overlaps_allowed():
        vocabulary = Vocabulary.from_bed(path, assembly=config["assembly"])
    if vocabulary.checksum != config["vocabulary"]:
        raise ValueError(f"{path} is not the vocabulary that {CONFIG} names.")
    return vocabulary
