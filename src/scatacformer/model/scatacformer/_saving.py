"""``save`` and ``load``: safetensors, JSON and BED, each written under a temporary name and then renamed."""

from __future__ import annotations

import json
from importlib.metadata import version
from inspect import signature
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any

import torch

from scatacformer._io import (
    check_finite,
    check_tensors,
    decode,
    encode,
    read_json,
    read_tensors,
    refuse_pointer,
    refuse_to_replace,
    sha256,
    whole_file,
)
from scatacformer.genome import Vocabulary
from scatacformer.model._scvi import MODEL_NAME_KEY, SETUP_ARGS_KEY, SETUP_METHOD_NAME_KEY

from ._dna import read_saved_dna
from ._eos import saved_classes
from ._mudata import is_mudata

if TYPE_CHECKING:
    import os

    from anndata import AnnData
    from mudata import MuData

FORMAT = 1
CONFIG, WEIGHTS, VOCABULARY, DATA = "config.json", "model.safetensors", "vocabulary.bed.gz", "adata.h5ad"
DNA = "dna.safetensors"
_KEYS: dict[str, type | UnionType] = {  # of config.json
    "format": int, "class": str, "versions": dict, "assembly": str | None, "vocabulary": str, "network": dict,
    "init_params": dict, "registry": dict, "attributes": dict, "sha256": dict,
}  # fmt: skip


class SavingMixin:
    """``save`` and ``load`` of :class:`~scatacformer.ScAtacFormer`, with scvi-tools' signatures."""

    def save(
        self,
        dir_path: str | os.PathLike,
        prefix: str | None = None,
        overwrite: bool = False,
        save_anndata: bool = False,
        **anndata_write_kwargs: Any,
    ) -> None:
        """Write the model to a folder: ``config.json``, ``model.safetensors``, ``vocabulary.bed.gz``.

        The DNA table of a model that has one is copied, as ``dna.safetensors``: the folder is whole wherever it goes.

        Parameters
        ----------
        dir_path
            The folder; made if it is not there.
        prefix
            Put before each file's name, so that several models fit in one folder.
        overwrite
            Whether files of an earlier model may be replaced. ValueError if not, and they are there.
        save_anndata
            Also write the AnnData, as ``adata.h5ad``; of a MuData the ATAC modality.
        """
        folder, prefix = Path(dir_path), prefix or ""
        table = {} if self.module.embedding.dna is None else {"dna": self.module.embedding.dna.table}
        names = [CONFIG, WEIGHTS, VOCABULARY] + ([DNA] if table else []) + ([DATA] if save_anndata else [])
        refuse_to_replace(folder, [prefix + name for name in names], overwrite)
        folder.mkdir(parents=True, exist_ok=True)
        from safetensors.torch import save_file

        weights = {k: v.detach().cpu().contiguous() for k, v in self.module.state_dict().items()}
        checksums = {}
        with whole_file(folder / (prefix + WEIGHTS)) as partial:
            save_file(weights, partial)
        self.vocabulary_.to_bed(folder / (prefix + VOCABULARY))
        if table:
            with whole_file(folder / (prefix + DNA)) as partial:
                save_file({k: v.cpu() for k, v in table.items()}, partial)
        for name in (WEIGHTS, VOCABULARY, *([DNA] if table else [])):
            checksums[name] = sha256(folder / (prefix + name))
        if save_anndata:
            # of pairs the ATAC: a MuData is the user's to write (mdata.write)
            with whole_file(folder / (prefix + DATA)) as partial:
                self.adata.write_h5ad(partial, **anndata_write_kwargs)
        content = json.dumps(self._description() | {"sha256": checksums}, indent=1, allow_nan=True)
        # last: a folder with a config is whole
        with whole_file(folder / (prefix + CONFIG)) as partial:
            partial.write_text(content, encoding="utf-8")

    @classmethod
    def load(
        cls,
        dir_path: str | os.PathLike,
        adata: AnnData | MuData | bool | None = None,
        accelerator: str = "auto",
        device: int | str = "auto",
        prefix: str | None = None,
        **kwargs: Any,
    ):
        """Read a model that :meth:`save` wrote. Nothing in the folder is executed.

        Parameters
        ----------
        adata
            Data set up like the model's (the same regions, known batches), AnnData or, for a model of pairs, MuData.
            None: the ``adata.h5ad`` in the folder.
            False: no data; the model embeds any AnnData that is handed to its methods.
        accelerator, device
            Where the weights go: ``"auto"``: the GPU if there is one; ``"cpu"``; ``"gpu"`` and its number.
        prefix
            As in :meth:`save`.

        Raises
        ------
        ValueError
            Not a saved ScAtacFormer; a file is missing, truncated or altered; ``adata`` does not fit.
        """
        if kwargs.pop("backup_url", None) is not None:
            raise ValueError("backup_url is not supported: download the folder and name it")
        if kwargs:
            raise TypeError(f"load() got unexpected arguments {sorted(kwargs)}")
        folder, prefix = Path(dir_path), prefix or ""
        config, weights, vocabulary = cls._read_files(folder, prefix)
        if adata is None:
            path = folder / (prefix + DATA)
            if not path.exists():
                raise ValueError(f"Save path contains no saved anndata and no adata was passed (looked for {path}).")
            import anndata

            adata = anndata.read_h5ad(path)
        registry, init = config["registry"], config["init_params"]["non_kwargs"]
        cls._check_options(folder / (prefix + CONFIG), init, config)
        if config["network"].get("d_dna"):
            init = init | {"dna": read_saved_dna(folder / (prefix + DNA))}
        attributes = config["attributes"]
        # a head has as many outputs as it was trained on
        kwargs = {"fixed_labels": True} if init.get("supervised") else {}
        if init.get("eos") == "region_class":  # those of the model, whatever is written in adata
            init = init | {"region_classes": saved_classes(weights, attributes)}
        if adata is False:
            model = cls(registry=registry, vocabulary=vocabulary, **init)
        elif is_mudata(adata):
            model = cls(cls._set_up_as(adata, attributes.get("mudata_setup_"), registry, **kwargs), **init)
        else:
            getattr(cls, registry[SETUP_METHOD_NAME_KEY])(
                adata, source_registry=registry, **kwargs, **registry[SETUP_ARGS_KEY]
            )
            model = cls(adata, **init)
        model._restore_pairs(attributes)
        for name in (
            "local_shift",
            "shift_centres",
            "shift_width",
        ):  # saved before batches were compared place by place
            weights.setdefault(name, model.module.state_dict()[name])
        shapes = ({k: v.shape for k, v in tensors.items()} for tensors in (weights, model.module.state_dict()))
        check_tensors(folder / (prefix + WEIGHTS), *shapes)
        model._check_network(folder / (prefix + CONFIG), config["network"])
        model.module.load_state_dict(weights)
        for name, value in attributes.items():
            setattr(model, name, value)
        model.to_device(pick_device(accelerator, device))
        model.module.eval()
        return model

    @staticmethod
    def load_registry(dir_path: str | os.PathLike, prefix: str | None = None) -> dict:
        """The registry saved with a model: how its AnnData was set up."""
        return read_config(Path(dir_path), prefix or "")["registry"]

    @classmethod
    def view_setup_args(cls, dir_path: str | os.PathLike, prefix: str | None = None) -> None:
        """Print how the AnnData of a saved model was set up."""
        import rich.pretty  # noqa: F401  scvi-tools uses it without importing it
        from scvi.data import AnnDataManager

        AnnDataManager.view_setup_method_args(cls.load_registry(dir_path, prefix))

    def _description(self) -> dict[str, Any]:
        attributes = {name: encode(value) for name, value in vars(self).items() if _is_attribute(name)}
        return {
            "format": FORMAT,
            "class": type(self).__name__,
            "versions": {name: version(name) for name in ("scatacformer", "scvi-tools", "torch")},
            "assembly": self.vocabulary_.assembly,
            "vocabulary": self.vocabulary_.checksum,
            "network": self.config_.to_dict(),
            "init_params": encode(self.init_params_),
            "registry": encode(self.registry_),
            "attributes": attributes,
        }

    @classmethod
    def _read_files(cls, folder: Path, prefix: str) -> tuple[dict, dict[str, torch.Tensor], Vocabulary]:
        """Configuration, weights and vocabulary of a folder, checked against one another."""
        config = read_config(folder, prefix)
        if config["class"] != cls.__name__:
            raise ValueError(f"{folder} holds a {config['class']}, expected a {cls.__name__}")
        for name in (WEIGHTS, VOCABULARY, *([DNA] if config["network"].get("d_dna") else [])):
            path = folder / (prefix + name)
            if not path.exists():
                raise ValueError(f"{path} is missing; copy the whole folder")
            refuse_pointer(path)
            if sha256(path) != config["sha256"].get(name):
                raise ValueError(f"{path} is truncated or was altered: its checksum differs from config.json's")
        vocabulary = Vocabulary.from_bed(folder / (prefix + VOCABULARY), assembly=config["assembly"])
        if vocabulary.checksum != config["vocabulary"]:
            raise ValueError(f"{folder / (prefix + VOCABULARY)} is not the vocabulary that config.json names")
        if vocabulary.n_bins != config["network"].get("n_bins"):
            raise ValueError(
                f"{folder / (prefix + VOCABULARY)} has {vocabulary.n_bins:,} regions, and the network of config.json "
                f"{config['network'].get('n_bins')}: they are not of one model"
            )
        weights = read_tensors(folder / (prefix + WEIGHTS))
        check_finite(folder / (prefix + WEIGHTS), weights)
        return config, weights, vocabulary

    @classmethod
    def _check_options(cls, path: Path, init: dict[str, Any], config: dict[str, Any]) -> None:
        """Refuse options and attributes that this version does not have."""
        strange = sorted(set(init) - set(signature(cls.__init__).parameters))
        strange += sorted(name for name in config["attributes"] if not _is_attribute(name))
        if strange:
            wrote, here = config["versions"].get("scatacformer", "an unknown version"), version("scatacformer")
            raise ValueError(
                f"{path} names {', '.join(map(repr, strange[:4]))}, which scatacformer {here} does not have. It was "
                f"written by {wrote}: update scatacformer"
            )

    def _check_network(self, path: Path, said: dict[str, Any]) -> None:
        """Refuse a model whose options give another network than the one that was saved, though its weights fit."""
        made = json.loads(json.dumps(self.config_.to_dict()))
        differs = [name for name in made if name in said and said[name] != made[name]]
        if differs:
            what = ", ".join(f"{name} {said[name]} (network) and {made[name]} (options)" for name in differs[:4])
            raise ValueError(f"{path} contradicts itself: {what}. Copy it again, or have it written anew")


def read_config(folder: Path, prefix: str) -> dict[str, Any]:
    """``config.json`` of a saved model; ValueError that says what the folder is instead."""
    path = folder / (prefix + CONFIG)
    if not path.exists():
        found = sorted(p.name for p in folder.iterdir())[:5] if folder.is_dir() else "no such folder"
        raise ValueError(
            f"{folder} is not a saved ScAtacFormer: it has no {prefix + CONFIG} (found: {found}). "
            "A model.pt is of another class of scvi-tools: load it with that"
        )
    config = read_json(path)
    if missing := sorted(_KEYS.keys() - config.keys()):
        named = config.get("architectures") or config.get("model_type")
        what = f" It is of another class, {' '.join(named) if isinstance(named, list) else named}." if named else ""
        what += " Read it with sf.Atacformer." if config.get("model_type") == "atacformer" else ""
        raise ValueError(f"{path} is not of a saved ScAtacFormer: it lacks {', '.join(missing)}.{what}")
    for name, kind in _KEYS.items():
        if not isinstance(config[name], kind):
            raise ValueError(f"{path} is damaged: {name} is {config[name]!r:.60}, expected {_kind(kind)}")
    if config["format"] > FORMAT:
        raise ValueError(f"{path} has format {config['format']}, expected at most {FORMAT}; update scatacformer")
    config = decode(config)
    lacks = [name for name in (MODEL_NAME_KEY, SETUP_METHOD_NAME_KEY, SETUP_ARGS_KEY) if name not in config["registry"]]
    if lacks or not isinstance(config["init_params"].get("non_kwargs"), dict):
        raise ValueError(f"{path} is damaged: it lacks {', '.join(lacks) or 'non_kwargs of init_params'}")
    return config


def _kind(kind: type | UnionType) -> str:
    return {int: "a whole number", str: "a string", dict: "an object"}.get(kind, "a string or null")  # type: ignore[arg-type]


def _is_attribute(name: str) -> bool:
    """Whether a model's attribute of that name is saved: what it has learned or was told, and nothing made of the rest."""
    made = ("registry_", "init_params_", "vocabulary_", "config_")
    return name.endswith("_") and name[0] != "_" and name not in made


def pick_device(accelerator: str, device: int | str) -> torch.device:
    """Where weights go, as scvi-tools' arguments name it."""
    if accelerator == "cpu" or (accelerator == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if accelerator in ("auto", "gpu", "cuda"):
        number = 0 if device == "auto" else int(str(device).rsplit(":", 1)[-1])
        return torch.device("cuda", number)
    return torch.device(accelerator)
