"""``save_pretrained``, ``from_pretrained``, ``push_to_hub``: a model, its vocabulary and where it comes from, to travel."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scatacformer._io import folder_of, model_card, refuse_to_replace, whole_file

from .scatacformer._saving import CONFIG, DNA, VOCABULARY, WEIGHTS, read_config

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from anndata import AnnData
    from mudata import MuData

CARD, SCVI_METADATA = "README.md", "_scvi_required_metadata.json"
TRAVELS = (CONFIG, WEIGHTS, VOCABULARY, DNA, CARD, SCVI_METADATA)


class PretrainedMixin:
    """``save_pretrained``, ``from_pretrained`` and ``push_to_hub`` of :class:`~scatacformer.ScAtacFormer`."""

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

        ``config.json``, ``model.safetensors``, ``vocabulary.bed.gz``, ``README.md`` with the card, and
        ``_scvi_required_metadata.json``, with which ``scvi.hub.HubModel`` opens the folder. Nothing in it is code. No
        cell is in it, but for the names of batches and labels, and of pairs the RNA's statistics.

        Parameters
        ----------
        folder
            Made if it is not there.
        description, data, license
            For the card: what the model is for; what it was trained on; under which terms it may be used (an SPDX
            name such as ``"cc-by-4.0"``). Where you say nothing, the card says so.
        metrics
            Name -> figure, for the card. Measured on which cells is for you to say, in ``description``.
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
        self._check_pretrained()
        folder = Path(folder)
        card = model_card(self, description=description, data=data, license=license, metrics=metrics)
        refuse_to_replace(folder, (CARD, SCVI_METADATA), overwrite)
        self.save(folder, overwrite=overwrite)
        sums = read_config(folder, "")["sha256"]
        with whole_file(folder / CARD) as partial:
            partial.write_text(card + _checksums(sums), encoding="utf-8")
        with whole_file(folder / SCVI_METADATA) as partial:
            partial.write_text(json.dumps(_scvi_metadata(type(self).__name__), indent=4), encoding="utf-8")
        return folder

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
    ):
        """The model in a folder, or in a repository of the Hugging Face hub. Nothing that is read is executed.

        Parameters
        ----------
        name
            Folder that :meth:`save_pretrained`, :meth:`save` or ``sf.pretrain`` wrote; or ``"owner/name"`` on the hub,
            which is downloaded once (needs huggingface_hub: ``pip install 'scatacformer[hub]'``).
        adata
            Data set up like the model's. Default: none; the model embeds any AnnData that is handed to its methods
            after :meth:`load_query_data` or :meth:`for_fine_tuning`.
        revision
            Branch, tag or commit of the repository. A commit is the same model for ever.
        cache_dir, token, local_files_only
            Where downloads are kept, who asks, and whether the cache alone may be used: as in huggingface_hub.
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
            name, TRAVELS, f"a model is a folder with {CONFIG}, {WEIGHTS} and {VOCABULARY}", needed=(CONFIG, WEIGHTS, VOCABULARY),
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
        """Upload the model to a repository of the Hugging Face hub, which is made if it is not there.

        Parameters
        ----------
        repo_id
            ``"owner/name"``.
        private
            Of a repository that is made.
        revision
            Branch; the main one by default.
        token
            Who uploads; default: who has logged in.
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
        self._check_pretrained()
        try:
            from huggingface_hub import HfApi
        except ImportError:
            raise ImportError("uploading needs huggingface_hub: pip install 'scatacformer[hub]'") from None
        import tempfile

        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder, **card)
            api = HfApi(token=token)
            api.create_repo(repo_id, private=private, exist_ok=True, repo_type="model")
            done = api.upload_folder(
                repo_id=repo_id, folder_path=folder, revision=revision, commit_message=commit_message,
                allow_patterns=list(TRAVELS),
            )  # fmt: skip
        return str(getattr(done, "commit_url", done))

    def _check_pretrained(self) -> None:
        if not self.is_trained_:
            raise ValueError("the model is not trained, and there is nothing to hand on; call train() first")


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
