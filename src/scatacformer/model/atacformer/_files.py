"""Atacformer's files: ``config.json``, ``model.safetensors``, ``universe.bed.gz``, from a folder or a hub and back.

Names of tensors and keys are those that geniml writes and reads. Nothing that is opened can run code.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from scatacformer._io import (
    check_finite,
    check_tensors,
    folder_of,
    listed_file,
    read_json,
    read_tensors,
    read_whole,
    refuse_altered,
    refuse_to_replace,
    whole_folder,
)
from scatacformer.genome import Vocabulary, overlaps_allowed
from scatacformer.nn import AtacformerConfig, AtacformerNetwork
from scatacformer.tokenizer import read_universe

CONFIG, WEIGHTS, UNIVERSE = "config.json", "model.safetensors", "universe.bed.gz"
HEADED = "AtacformerForReplacedTokenDetection"
ARCHITECTURES = ("AtacformerModel", "AtacformerForCellClustering", HEADED)
PREFIXES = ("atacformer.", "craft.atac_encoder.", "atac_encoder.", "")
TABLE, POSITIONS = "embeddings.token_embeddings.weight", "embeddings.position_embeddings.weight"
_LAYER = "encoder.layers."
# heads that are not of use here: of batch correction, of masked tokens, and the other half of CRAFT
_LEFT_OUT = (
    "batch_prediction_head.", "lm_head.", "gene_encoder.", "gene_projection.", "atac_projection.", "gene_activity_head.",
    "logit_scale",
)  # fmt: skip


def read(folder: Path, assembly: str | None) -> tuple[AtacformerConfig, AtacformerNetwork, Vocabulary, dict[str, Any]]:
    """Configuration, network, universe and the whole ``config.json``, checked against each other.

    ``assembly`` of the universe; None: that in ``config.json``, which databio's files do not have.

    Raises ValueError for what is not an Atacformer, for files that are missing, truncated or do not fit together.
    """
    return read_whole(folder / CONFIG, lambda: _read(folder, assembly))


def _read(folder: Path, assembly: str | None) -> tuple[AtacformerConfig, AtacformerNetwork, Vocabulary, dict[str, Any]]:
    content = _read_config(folder)
    tensors, prefix = _read_tensors(_file(folder, WEIGHTS, content), content)
    parts = tuple(prefix + part for part in ("embeddings.", "encoder."))
    encoder = {name.removeprefix(prefix): name for name in tensors if name.startswith(parts)}
    heads = {name: name for name in tensors if name.startswith("discriminator.")}
    strange = [
        name for name in tensors
        if not name.startswith((*parts, "discriminator.")) and not name.removeprefix("craft.").startswith(_LEFT_OUT)
    ]  # fmt: skip
    if strange:
        raise ValueError(
            f"{folder / WEIGHTS} holds {len(strange)} tensors that an Atacformer does not have (first: {strange[0]}). "
            f"It is {_kind(content)}."
        )
    shapes = {name: tuple(tensors[source].shape) for name, source in (encoder | heads).items()}
    config = _config_of(folder, content, shapes)
    vocabulary = _read_universe(_file(folder, UNIVERSE, content), config, assembly or content.get("assembly"))
    with torch.device("meta"):  # the table is read once and not copied
        network = AtacformerNetwork(config, discriminator=bool(heads))
    check_tensors(folder / WEIGHTS, shapes, {name: tensor.shape for name, tensor in network.state_dict().items()})
    for name, source in (encoder | heads).items():
        if not tensors[source].is_floating_point():
            raise ValueError(f"{folder / WEIGHTS}: {name} is {tensors[source].dtype}; expected floating point.")
    state = {name: tensors[source].to(torch.float32) for name, source in (encoder | heads).items()}
    check_finite(folder / WEIGHTS, state)
    refuse_altered(folder / CONFIG, content)
    network.load_state_dict(state, assign=True)
    return config, network.requires_grad_(True).eval(), vocabulary, content


def write(
    folder: Path,
    network: AtacformerNetwork,
    vocabulary: Vocabulary,
    content: dict[str, Any],
    architecture: str,
    overwrite: bool,
    notes: dict[str, str],
) -> None:
    """The three files, and ``notes`` (name -> text) beside them; an earlier model remains until they are complete.

    Raises ValueError for an architecture that is not written, or whose head the network lacks, or if files would be
    replaced without ``overwrite``.
    """
    if architecture not in ARCHITECTURES:
        raise ValueError(f"architecture is {architecture!r}; expected one of {', '.join(ARCHITECTURES)}.")
    if architecture == HEADED and network.discriminator is None:
        raise ValueError(
            f"{HEADED} has a head that this model lacks. Create one with train(objective='replaced_tokens'), or choose "
            "architecture='AtacformerForCellClustering'."
        )
    refuse_to_replace(folder, (CONFIG, WEIGHTS, UNIVERSE), overwrite)
    from safetensors.torch import save_file

    prefix = "" if architecture == "AtacformerModel" else "atacformer."
    tensors = {}
    for name, tensor in network.state_dict().items():
        if name.startswith("discriminator."):
            if architecture == HEADED:
                tensors[name] = tensor.detach().cpu().contiguous()
        else:
            tensors[prefix + name] = tensor.detach().cpu().contiguous()
    owns = (WEIGHTS, UNIVERSE, "README.md")
    with whole_folder(folder, CONFIG, owns, overwrite=overwrite, beside=("tokenizer_config.json",)) as writer:
        with writer.file(WEIGHTS) as path:
            save_file(tensors, path, metadata={"format": "pt"})  # transformers refuses a file that does not say so
        with writer.file(UNIVERSE) as path, overlaps_allowed():  # no assembly: theirs does not skip a header line
            replace(vocabulary, assembly=None).to_bed(path, packed=True)
        for name, text in notes.items():
            with writer.file(name) as path:
                path.write_text(text, encoding="utf-8")
        writer.point(content)


def _read_config(folder: Path) -> dict[str, Any]:
    there = sorted(path.name for path in folder.iterdir())
    content = read_json(folder / CONFIG) if CONFIG in there else {}
    missing = [name for name in (CONFIG, WEIGHTS, UNIVERSE) if not _file(folder, name, content).exists()]
    if CONFIG not in missing:
        if content.get("class") == "ScAtacFormer":
            raise ValueError(f"{folder} contains a ScAtacFormer, not an Atacformer. Load it with sf.ScAtacFormer.")
    if missing:
        hint = ""
        if WEIGHTS in missing and (pickles := [name for name in there if name.endswith((".bin", ".pt", ".ckpt"))]):
            hint = f" {pickles[0]} may contain code and is not opened. Convert it to safetensors."
        elif missing == [UNIVERSE]:
            hint = f" It is {_kind(content)}; without its regions the token ids mean nothing."
        raise ValueError(
            f"{folder} lacks {', '.join(missing)} (found: {', '.join(there[:8]) or 'nothing'}).{hint} Expected the "
            f"layout of an Atacformer: {CONFIG}, {WEIGHTS}, {UNIVERSE}."
        )
    return content


def _file(folder: Path, name: str, content: dict[str, Any]) -> Path:
    """Path of a file; the configuration has checksums of files written by this package."""
    sums = content.get("sha256")
    return listed_file(folder, name, sums if isinstance(sums, dict) else {})


def _read_tensors(path: Path, content: dict[str, Any]) -> tuple[dict[str, torch.Tensor], str]:
    """All tensors by their name, and what stands before the names of the encoder's."""
    tensors = read_tensors(path)
    for prefix in PREFIXES:
        if prefix + TABLE in tensors:
            return tensors, prefix
    example = ", ".join(sorted(tensors)[:3])
    what = (
        "only the gene encoder of a CRAFT model"
        if any("gene_encoder." in name for name in tensors)
        else "no Atacformer"
    )
    raise ValueError(
        f"{path} holds {what}: there is no {TABLE}. Found {_kind(content)}, with {len(tensors)} tensors ({example} ...)."
    )


def _kind(content: dict[str, Any]) -> str:
    """Description of the model in a configuration."""
    if content.get("architectures"):
        return ", ".join(map(str, content["architectures"]))
    return f"a model of type {content['model_type']!r}" if content.get("model_type") else "a model without a type"


def _config_of(folder: Path, content: dict[str, Any], shapes: dict[str, tuple[int, ...]]) -> AtacformerConfig:
    """Sizes from the tensors; heads, positions and padding from the configuration, which must not contradict them."""
    vocab_size, hidden = shapes[TABLE]
    layers = {name.removeprefix(_LAYER).split(".")[0] for name in shapes if name.startswith(_LAYER)}
    first = shapes.get(_LAYER + "0.linear1.weight")
    if not layers or first is None or POSITIONS not in shapes:
        raise ValueError(f"{folder / WEIGHTS} lacks {POSITIONS if layers and first else _LAYER + '0.linear1.weight'}.")
    found = {
        "vocab_size": vocab_size, "hidden_size": hidden, "intermediate_size": first[0],
        "num_hidden_layers": len(layers), "max_position_embeddings": shapes[POSITIONS][0],
    }  # fmt: skip
    # that of a CRAFT model stands within another one
    nested = [value for value in content.values() if isinstance(value, dict) and "num_attention_heads" in value]
    said = next((c for c in [content, *nested] if c.get("vocab_size") == vocab_size), content)
    for name, value in found.items():
        if name in said and said[name] != value:
            raise ValueError(
                f"{folder}: {CONFIG} has {name} {said[name]}, but the tensors of {WEIGHTS} have {value}. The two files "
                "are not from the same model."
            )
    if "num_attention_heads" not in said:
        raise ValueError(
            f"{folder / CONFIG} has no num_attention_heads, which cannot be derived from the tensors. Add it."
        )
    use_positions = said.get("use_pos_embeddings", True)  # geniml's default for a configuration without it
    width = shapes.get("discriminator.dense.weight", (None,))[0]
    try:
        return AtacformerConfig(
            **found, num_attention_heads=said["num_attention_heads"], use_pos_embeddings=bool(use_positions),
            pad_token_id=said.get("pad_token_id"), norm_eps=float(said.get("norm_eps", 1e-5)),
            discriminator_hidden_size=None if width == hidden else width,
        )  # fmt: skip
    except (TypeError, ValueError) as error:
        raise ValueError(f"{folder / CONFIG}: {error}") from None


def _read_universe(path: Path, config: AtacformerConfig, assembly: str | None) -> Vocabulary:
    vocabulary = read_universe(path, assembly)
    if vocabulary.n_bins != config.n_regions:
        raise ValueError(
            f"{path} has {vocabulary.n_bins:,} regions; with the 7 special tokens that is {vocabulary.n_bins + 7:,} tokens, "
            f"but the model has {config.vocab_size:,}. It is not this model's universe."
        )
    return vocabulary


def export_config(config: AtacformerConfig, content: dict[str, Any], architecture: str, assembly: str | None) -> dict:
    """``config.json`` for ``architecture``: what was read, with our sizes in it."""
    # of what is not said here; what a CRAFT model says of itself stays behind
    same = content.get("model_type") == "atacformer"
    kept = {k: v for k, v in content.items() if same and isinstance(v, int | float | str | bool) and k != "dtype"}
    special = config.special_ids
    tokens = {f"{name}_token_id": special[name] for name in ("pad", "eos", "bos", "cls", "sep")}
    assembly_key = {"assembly": assembly} if assembly else {}
    return kept | config.to_dict() | tokens | assembly_key | {
        "architectures": [architecture], "model_type": "atacformer", "torch_dtype": "float32",
        "tie_word_embeddings": True,
    }  # fmt: skip


def fetch(name: str | os.PathLike, **hub: Any) -> Path:
    """The folder itself, or the one of the cache that holds the files of a repository of the hub.

    Raises as :func:`scatacformer._io.hub.folder_of` does.
    """
    files = (CONFIG, WEIGHTS, UNIVERSE)
    return folder_of(name, files, f"a model is a folder that holds {', '.join(files)}", needed=files, **hub)
