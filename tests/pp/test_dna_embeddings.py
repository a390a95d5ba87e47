"""DNA through a tiny language model in the manner of the Nucleotide Transformer: what is pooled, resumed and refused."""

from __future__ import annotations

import itertools
import json
import shutil

import numpy as np
import pytest
import torch

from scatacformer.genome import Vocabulary
from scatacformer.pp import dna_embeddings
from scatacformer.sequence import DnaTableWriter

transformers = pytest.importorskip("transformers")

SIZES = {"chr1": 40_000, "chr2": 12_345}
SPECIAL = ["<unk>", "<pad>", "<mask>", "<cls>", "<eos>", "<bos>"]


def write_checkpoint(folder, k=6, n_positions=1002, seed=0, eos=None, **config):
    """Random weights, of Esm's architecture, with the k-mers of the Nucleotide Transformer or letters (k = 1)."""
    folder.mkdir()
    kmers = ["".join(letters) for letters in itertools.product("ATCG", repeat=k)] if k > 1 else []
    words = SPECIAL + kmers + list("ATCGN")
    (folder / "vocab.txt").write_text("\n".join(words))
    tokenizer = transformers.EsmTokenizer(
        str(folder / "vocab.txt"), eos_token=eos, model_max_length=n_positions - 2, pad_token="<pad>"
    )
    tokenizer.save_pretrained(folder)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = transformers.EsmForMaskedLM(
            transformers.EsmConfig(
                vocab_size=len(words), max_position_embeddings=n_positions, pad_token_id=1, mask_token_id=2,
                token_dropout=True, initializer_range=0.5, **(sizes | config),
            )
        )  # fmt: skip
    network.save_pretrained(folder)
    return folder


def write_fasta(path, seed=0):
    rng = np.random.default_rng(seed)
    lines = []
    for name, size in SIZES.items():
        letters = rng.choice(list("ACGT"), size)
        if name == "chr1":
            letters[:6000] = "N"  # the first bin, and a part of the second
            letters[16_000:16_100] = "N"
        lines.append(f">{name}\n{''.join(letters)}\n")
    path.write_text("".join(lines))
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dna")
    write_checkpoint(folder / "model")
    write_fasta(folder / "genome.fa")
    return folder


@pytest.fixture
def vocabulary():
    return Vocabulary.from_chrom_sizes(SIZES)


@pytest.fixture
def made(files, vocabulary, tmp_path):
    """Makes a table of the usual things, with changes."""

    def make(name="dna.npy", **changes):
        arguments = {"adata": vocabulary, "fasta": files / "genome.fa", "model": files / "model", "device": "cpu"}
        arguments |= {"batch_size": 3, "dtype": "float32"}
        return dna_embeddings(out=tmp_path / name, **(arguments | changes))

    return make


def bin_of(fasta, start, end, chrom=0):
    return fasta.read_text().splitlines()[2 * chrom + 1][start:end]


def mean_state(folder, sequence):
    """By transformers alone: one bin, in one window."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    network = transformers.AutoModel.from_pretrained(folder).eval()
    with torch.inference_mode():
        batch = tokenizer(sequence, return_tensors="pt")
        hidden = network(**batch).last_hidden_state[0]
    special = tokenizer.get_special_tokens_mask(batch["input_ids"][0].tolist(), already_has_special_tokens=True)
    dna = ~torch.tensor(special).bool() & (batch["input_ids"][0] != tokenizer.convert_tokens_to_ids("N"))
    return hidden[dna].mean(0).numpy()


def test_rows_are_the_mean_of_the_last_hidden_states(made, files, vocabulary):
    found = made()
    assert found.shape == (vocabulary.n_bins, 16)
    assert isinstance(found, np.memmap)
    for row, (start, end, chrom) in {2: (10_000, 15_000, 0), 10: (10_000, 12_345, 1)}.items():
        expected = mean_state(files / "model", bin_of(files / "genome.fa", start, end, chrom))
        np.testing.assert_allclose(found[row], expected, atol=1e-5)
    assert np.abs(found[2:] - found[2:].mean(0)).mean(0).min() > 1e-4  # bins differ


def test_bins_of_n_alone_are_zero_and_n_is_not_pooled(made, files):
    found = made()
    assert not found[0].any()
    assert found[1:].any(1).all()
    # 100 N in the middle: read, in one window, and left out of the mean
    expected = mean_state(files / "model", bin_of(files / "genome.fa", 15_000, 20_000))
    np.testing.assert_allclose(found[3], expected, atol=1e-5)


@pytest.mark.parametrize(
    ("k", "eos", "config"),
    [(6, None, {}), (1, "<eos>", {}), (6, "<eos>", {"position_embedding_type": "rotary"})],
    ids=["6-mers", "letters", "rotary"],
)
def test_windows_cover_the_bin_and_fit_the_context(tmp_path, files, made, k, eos, config, monkeypatch):
    folder = write_checkpoint(tmp_path / "short", k, n_positions=402, eos=eos, **config)
    read = []
    forward = transformers.EsmModel.forward

    def listen(self, input_ids=None, attention_mask=None, **kwargs):
        read.extend(row[mask.bool()].tolist() for row, mask in zip(input_ids, attention_mask, strict=True))
        return forward(self, input_ids=input_ids, attention_mask=attention_mask, **kwargs)

    monkeypatch.setattr(transformers.EsmModel, "forward", listen)
    found = made(model=folder)
    monkeypatch.undo()
    assert 350 < max(map(len, read)) <= 400
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    text = ["".join(t for t in tokenizer.convert_ids_to_tokens(row) if t not in SPECIAL) for row in read]
    assert all(row[0] == 3 and (eos is None or row[-1] == 4) for row in read)  # each window has its special tokens
    assert sum(map(len, text)) >= sum(SIZES.values()) - 6000
    whole = bin_of(files / "genome.fa", 10_000, 15_000)
    parts = [t for t in text if t in whole]
    assert sum(map(len, parts)) == 5000
    if k == 6:  # 835 tokens in 3 windows
        assert sorted(len(p) // 6 for p in parts) == [277, 278, 278]
        network = transformers.AutoModel.from_pretrained(folder).eval()
        rows = [row for row, t in zip(read, text, strict=True) if t in whole]
        with torch.inference_mode():
            inner = slice(1, None if eos is None else -1)
            states = [network(torch.tensor([row])).last_hidden_state[0, inner] for row in rows]
        np.testing.assert_allclose(found[2], torch.cat(states).mean(0).numpy(), atol=1e-5)


def test_the_batch_changes_rounding_alone(made):
    np.testing.assert_allclose(made("a.npy", batch_size=1), made("b.npy", batch_size=64), atol=1e-5)


def test_precision_and_type_are_as_asked(made):
    exact, half = made("a.npy"), made("b.npy", precision="bfloat16", dtype="float16")
    assert (exact.dtype, half.dtype) == (np.float32, np.float16)
    assert 0 < np.abs(half - exact).max() < 0.1 * exact.std() * 4


def test_a_killed_run_goes_on_where_it_was(made, tmp_path, monkeypatch):
    whole = made("whole.npy")
    append = DnaTableWriter.append
    read = []

    class Killed(BaseException):
        pass

    def die(self, rows):
        if self.n_done:
            raise Killed
        append(self, rows)
        self.save()

    monkeypatch.setattr("scatacformer.pp._dna_embeddings.DnaTableWriter.append", die)
    with pytest.raises(Killed):
        made(batch_size=1)
    assert not (tmp_path / "dna.npy").exists()
    monkeypatch.setattr(
        "scatacformer.pp._dna_embeddings.DnaTableWriter.append",
        lambda self, rows: (read.append(len(rows)), append(self, rows)),
    )
    np.testing.assert_allclose(made(batch_size=1), whole, atol=1e-5)
    assert sum(read) == len(whole) - 4  # the first four were there
    made()  # whole: nothing is read
    assert sum(read) == len(whole) - 4


def test_another_model_fasta_vocabulary_or_setting_is_refused_before_any_work(made, files, tmp_path, vocabulary):
    made()
    before = (tmp_path / "dna.npy").read_bytes()
    write_checkpoint(tmp_path / "other", seed=1)
    shutil.copytree(files / "model", tmp_path / "same")
    v = vocabulary
    others = {
        "model": {"model": tmp_path / "other"},
        "fasta": {"fasta": write_fasta(tmp_path / "other.fa", seed=1)},
        "vocabulary": {"adata": Vocabulary(v.chrom_names, v.chrom[::-1], v.start[::-1], v.end[::-1])},
        "precision": {"precision": "bfloat16"},
    }
    for name, changes in others.items():
        with pytest.raises(ValueError, match=rf"with other inputs \({name}: \S+ there, \S+ now\)"):
            made(**changes)
    made(model=tmp_path / "same")  # the same weights, in another place
    assert (tmp_path / "dna.npy").read_bytes() == before
    notes = json.loads((tmp_path / "dna.npy.json").read_text())
    assert notes["context_bp"] == 5994
    assert notes["settings"]["vocabulary"] == vocabulary.checksum


def _truncated(folder):
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[: len(content) // 2])


def _without_a_layer(folder):
    from safetensors.torch import load_file, save_file

    weights = {k: v for k, v in load_file(folder / "model.safetensors").items() if "attention.self.key" not in k}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def _pickled(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def _of_other_sizes_with_code(folder):
    config = json.loads((folder / "config.json").read_text())
    config |= {"intermediate_size": 32, "auto_map": {"AutoModel": "modeling_own.OwnModel"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "modeling_own.py").write_text("raise SystemExit('code of the checkpoint was run')")


def _of_an_unknown_kind(folder):
    (folder / "config.json").write_text('{"model_type": "no_such_model"}')


def _of_proteins(folder):
    (folder / "vocab.txt").write_text("\n".join([*SPECIAL, *"LVGSERTIDPKQNFYMHWCXBUZO"]))


BROKEN = {
    "truncated": (_truncated, "cannot be loaded"),
    "without a layer": (_without_a_layer, "lacks weights of its network"),
    "pickled": (_pickled, "no weights in safetensors.*pytorch_model.bin is not opened"),
    "own code": (_of_other_sizes_with_code, "requires its own code .auto_map., which is not run"),
    "unknown": (_of_an_unknown_kind, "cannot be loaded"),
    "proteins": (_of_proteins, "does not read DNA"),
    "empty": (lambda folder: (folder / "config.json").unlink(), "it has no config.json"),
    "not JSON": (lambda folder: (folder / "config.json").write_text("{"), "truncated or not JSON"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_checkpoint_is_refused_before_any_work(made, files, tmp_path, kind):
    folder, (damage, message) = tmp_path / "broken", BROKEN[kind]
    shutil.copytree(files / "model", folder)
    damage(folder)
    with pytest.raises(ValueError, match=message):
        made(model=folder)
    assert not [p.name for p in tmp_path.iterdir() if "npy" in p.name]


def test_arguments_are_looked_at_first(made, tmp_path):
    for changes, message in (
        ({"batch_size": 0}, "batch_size is .*; expected at least 1"),
        ({"precision": "float8"}, "precision is .*; expected one of"),
        ({"dtype": "int8"}, "dtype is .*; expected one of"),
        ({"device": "abacus"}, "device is 'abacus'; expected 'auto'"),
        ({"name": "dna.txt"}, "expected the name of a .npy file"),
        ({"adata": 5}, "adata is int; expected an AnnData, a Vocabulary or a model"),
        ({"adata": Vocabulary.from_chrom_sizes({"chr1": 90_000})}, "9 of 18 bins end beyond|10 of 18 bins end beyond"),
    ):
        with pytest.raises(ValueError, match=message):
            made(**changes)
    with pytest.raises(FileNotFoundError, match="the folder .* does not exist"):
        made("nowhere/dna.npy")
    assert not list(tmp_path.iterdir())


@pytest.mark.gpu
def test_a_gpu_gives_the_same_rows(made):
    cpu = made("cpu.npy")
    np.testing.assert_allclose(made("gpu.npy", device="cuda"), cpu, atol=1e-3)
    half = made("half.npy", device="cuda", precision="bfloat16")
    assert np.abs(half - cpu).max() < 0.1
