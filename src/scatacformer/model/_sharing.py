"""What every model has to be kept and shared: ``save`` and ``load``, ``save_pretrained``, ``from_pretrained``,
``push_to_hub``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from scatacformer._io import CardFacts, folder_of, html_table, model_card
from scatacformer.training import pick_device

from . import _folder
from ._folder import CARD, CONFIG, SCVI_METADATA, TRAVELS, VOCABULARY, WEIGHTS, ModelFiles

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping
    from typing import Self

    from anndata import AnnData
    from mudata import MuData


class SharingMixin:
    """``save``, ``load`` and the hub, for a class that says what it consists of.

    A model implements :meth:`_to_files` and :meth:`_from_files`, which are inverse, and :meth:`_card_facts`; it has
    ``is_trained_``, ``adata``, ``module`` and ``to_device``, as scvi-tools' models do.
    """

    is_trained_: bool
    module: Any
    _travels: tuple[str, ...] = TRAVELS  # what is uploaded
    _needed_files: tuple[str, ...] = (CONFIG, WEIGHTS, VOCABULARY)  # without which there is no model of the class

    def _to_files(self) -> ModelFiles:
        """What is saved, without data."""
        raise NotImplementedError

    @classmethod
    def _from_files(cls, files: ModelFiles, adata: AnnData | MuData | None) -> Self:
        """The model of ``files``, on the CPU; with ``adata``, set up like the model's own, or without data."""
        raise NotImplementedError

    def _card_facts(self) -> CardFacts:
        """What its model card says of it."""
        raise NotImplementedError

    def _repr_html_(self) -> str:
        rows = [*self._card_facts().rows, ("state", "trained" if self.is_trained_ else "not trained")]
        return html_table(type(self).__name__, rows)

    def save(
        self,
        dir_path: str | os.PathLike,
        prefix: str | None = None,
        overwrite: bool = False,
        save_anndata: bool = False,
        **anndata_write_kwargs: Any,
    ) -> None:
        """Write the model to a folder: ``config.json``, weights, vocabulary, and tables of the model if it has any.

        The folder holds the earlier model until the new one is whole, whatever happens in between.

        Parameters
        ----------
        dir_path
            The folder; created if needed.
        prefix
            Put before each file's name, so that several models fit in one folder.
        overwrite
            Whether a model that the folder holds may be replaced, with its data. ValueError if not, and it holds one.
        save_anndata
            Also write the AnnData; of a MuData the ATAC modality.
        **anndata_write_kwargs
            As in ``AnnData.write_h5ad``.
        """
        files = self._to_files()
        if save_anndata:
            files = _with_adata(files, self.adata)  # type: ignore[attr-defined]
        _folder.write(dir_path, files, prefix, overwrite, **anndata_write_kwargs)

    @classmethod
    def load(
        cls,
        dir_path: str | os.PathLike,
        adata: AnnData | MuData | bool | None = None,
        accelerator: str = "auto",
        device: int | str = "auto",
        prefix: str | None = None,
        **kwargs: Any,
    ) -> Self:
        """Read a model that :meth:`save` wrote. Nothing in the folder is executed.

        Parameters
        ----------
        dir_path
            The folder.
        adata
            Data set up like the model's. None: the AnnData that was saved with the model. False: no data; the model
            reads any AnnData that is passed to its methods.
        accelerator, device
            Where the weights go: ``"auto"``: the GPU if there is one; ``"cpu"``; ``"gpu"`` and its number.
        prefix
            As in :meth:`save`.
        **kwargs
            None: arguments of scvi-tools that do not apply here (``backup_url``) are refused.

        Raises
        ------
        ValueError
            Not a saved model of this class; a file is missing, truncated or altered; weights that are not of the
            network that ``config.json`` describes; ``adata`` does not fit.
        """
        if kwargs.pop("backup_url", None) is not None:
            raise ValueError("backup_url is not supported: download the folder and pass its path.")
        if kwargs:
            raise TypeError(f"load() got unexpected arguments {sorted(kwargs)}.")
        files = _folder.read(dir_path, cls.__name__, prefix)
        data: Any = files.read_adata() if adata is None else None if adata is False else adata
        model = cls._from_files(files, data)
        files.check_content()
        model.to_device(pick_device(accelerator, device))  # type: ignore[attr-defined]
        model.module.eval()
        return model

    @classmethod
    def convert_legacy_save(cls, *args: Any, **kwargs: Any) -> NoReturn:
        """Refused: scvi-tools' old files are pickles, which run code when they are read; this package wrote none."""
        raise NotImplementedError(
            f"{cls.__name__} has no legacy files: its models were always saved as safetensors and JSON. A pickle is not "
            "read, for it can run any code."
        )

    def save_pretrained(
        self,
        folder: str | os.PathLike,
        description: str | None = None,
        data: str | None = None,
        license: str | None = None,
        metrics: Mapping[str, float] | None = None,
        overwrite: bool = False,
    ) -> Path:
        """Write the model to a folder that others can use: what :meth:`save` writes, and a model card.

        Beside the model's own files ``README.md`` with the card, and ``_scvi_required_metadata.json``, with which
        ``scvi.hub.HubModel`` opens the folder. Nothing in it is code. No cell is in it, except for the names of batches
        and labels, and for a model of pairs the RNA's statistics.

        Parameters
        ----------
        folder
            Created if needed.
        description, data, license
            For the card: what the model is for; what it was trained on; under which terms it may be used (an SPDX
            name such as ``"cc-by-4.0"``). Where you say nothing, the card says so.
        metrics
            Name -> figure, for the card. Which cells it was measured on is for you to say, in ``description``.
        overwrite
            Whether files of an earlier model may be replaced.

        Returns
        -------
        The folder.

        Raises
        ------
        ValueError
            The model is not trained, a metric is not a finite number, or the folder holds a model.
        """
        self._check_trained_to_share()
        card = self._card(description, data, license, metrics)

        def notes(sums: dict[str, str]) -> dict[str, str]:
            metadata = json.dumps(_scvi_metadata(type(self).__name__), indent=4)
            return {CARD: card + _checksums(sums), SCVI_METADATA: metadata}

        return _folder.write(folder, self._to_files(), overwrite=overwrite, notes=notes)

    @classmethod
    def from_pretrained(
        cls,
        name: str | os.PathLike,
        adata: AnnData | MuData | None = None,
        revision: str | None = None,
        cache_dir: str | os.PathLike | None = None,
        token: str | bool | None = None,
        local_files_only: bool = False,
        accelerator: str = "auto",
        device: int | str = "auto",
    ) -> Self:
        """The model in a folder, or in a repository of the Hugging Face hub. Nothing that is read is executed.

        Parameters
        ----------
        name
            Folder that :meth:`save_pretrained` or :meth:`save` wrote; or ``"owner/name"`` on the hub, which is
            downloaded once (needs huggingface_hub: ``pip install 'scatacformer[hub]'``).
        adata
            Data set up like the model's. Default: none; the model reads any AnnData that is passed to its methods.
        revision
            Branch, tag or commit of the repository. A commit is always the same model.
        cache_dir, token, local_files_only
            Where downloads are kept, the token to download with, and whether the cache alone may be used: as in
            huggingface_hub.
        accelerator, device
            As in :meth:`load`.

        Raises
        ------
        ValueError
            No such repository or revision; not a model of this class; a file is missing, truncated or altered, and
            which; weights that are not of the network that ``config.json`` describes; ``adata`` does not fit.
        OSError
            The hub cannot be reached, and the model is not in the cache.
        ImportError
            huggingface_hub is needed and not installed.
        """
        folder = folder_of(
            name, TRAVELS, f"a model is a folder with {CONFIG} and {WEIGHTS}", needed=cls._needed_files,
            revision=revision, cache_dir=cache_dir, token=token, local_files_only=local_files_only,
        )  # fmt: skip
        return cls.load(folder, adata=False if adata is None else adata, accelerator=accelerator, device=device)

    def push_to_hub(
        self,
        repo_id: str,
        private: bool = False,
        revision: str | None = None,
        token: str | bool | None = None,
        commit_message: str = "Upload a scatacformer model",
        **card: Any,
    ) -> str:
        """Upload the model to a repository of the Hugging Face hub, which is created if needed.

        Parameters
        ----------
        repo_id
            ``"owner/name"``.
        private
            Whether a repository that is created is private.
        revision
            Branch; the main one by default.
        token
            The token to upload with; default: that of the login.
        commit_message
            Of the upload: one commit with all files.
        **card
            ``description``, ``data``, ``license``, ``metrics``: as in :meth:`save_pretrained`.

        Returns
        -------
        Address of the commit.

        Raises
        ------
        ValueError
            As :meth:`save_pretrained`.
        ImportError
            huggingface_hub is not installed.
        """
        self._check_trained_to_share()
        try:
            from huggingface_hub import HfApi
        except ImportError:
            raise ImportError("uploading needs huggingface_hub: pip install 'scatacformer[hub]'.") from None
        import tempfile

        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder, **card)
            api = HfApi(token=token)
            api.create_repo(repo_id, private=private, exist_ok=True, repo_type="model")
            done = api.upload_folder(
                repo_id=repo_id, folder_path=folder, revision=revision, commit_message=commit_message,
                allow_patterns=list(self._travels),
            )  # fmt: skip
        return str(getattr(done, "commit_url", done))

    def _card(
        self, description: str | None, data: str | None, license: str | None, metrics: Mapping[str, float] | None
    ) -> str:
        return model_card(self._card_facts(), description=description, data=data, license=license, metrics=metrics)

    def _check_trained_to_share(self) -> None:
        if not self.is_trained_:
            raise ValueError("the model is not trained: there is nothing to share; call train() first.")


def _with_adata(files: ModelFiles, adata: AnnData | None) -> ModelFiles:
    from dataclasses import replace

    if adata is None:
        raise ValueError("the model has no AnnData of its own (it was loaded with adata=False) to save.")
    return replace(files, adata=adata)


def _checksums(sums: dict[str, str]) -> str:
    lines = [f"| `{name}` | `{value}` |" for name, value in sums.items()]
    return "\n".join(["", "## Checksums", "", "| file | SHA-256 |", "|---|---|", *lines, ""])


def _scvi_metadata(class_name: str) -> dict[str, Any]:
    """What scvi.hub.HubMetadata reads."""
    from importlib.metadata import version

    return {
        "scvi_version": version("scvi-tools"),
        "anndata_version": version("anndata"),
        "model_cls_name": class_name,
        "training_data_url": None,
        "model_parent_module": "scatacformer",
    }
