from __future__ import annotations

import copy
import pickle
import warnings
from collections.abc import Mapping
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

import scatacformer as sf
from scatacformer.genome import Vocabulary

pytestmark = pytest.mark.filterwarnings("ignore:.* have no token:UserWarning")

REGIONS = [("chr1", 100, 200), ("chr2", 50, 80), ("chr1", 150, 400), ("chr1", 120, 160), ("chr1", 1000, 2000)]
SPECIAL = ["<unk>", "<pad>", "<mask>", "<cls>", "<eos>", "<bos>", "<sep>"]


def write_bed(path, regions):
    path.write_text("".join(f"{chrom}\t{start}\t{end}\n" for chrom, start, end in regions))
    return path


@pytest.fixture
def tokenizer(tmp_path):
    return sf.Tokenizer.from_bed(write_bed(tmp_path / "universe.bed", REGIONS))


def random_regions(rng, n, widest, chroms=("chr1", "chr2", "chrX"), narrowest=1):
    start = rng.integers(0, 3_000, n)
    width = rng.integers(narrowest, widest, n)
    return [(str(c), int(s), int(s + w)) for c, s, w in zip(rng.choice(chroms, n), start, width, strict=True)]


@pytest.mark.parametrize("widest", [4, 60, 1_500])
@pytest.mark.parametrize("seed", range(4))
def test_ids_are_those_of_gtars(tmp_path, widest, seed):
    gtars = pytest.importorskip("gtars.tokenizers")
    Region = pytest.importorskip("gtars.models").Region
    rng = np.random.default_rng(seed)
    universe = list(dict.fromkeys(random_regions(rng, 300, widest)))  # unsorted, overlapping, nested
    path = write_bed(tmp_path / "u.bed", universe)
    theirs, ours = gtars.Tokenizer(str(path)), sf.Tokenizer.from_bed(path)
    queries = random_regions(rng, 200, 80, ("chr1", "chr2", "chr7"), narrowest=0)
    n_hits = 0
    for query in queries:
        expected = theirs([Region(*query, None)])
        found = ours([query])
        assert found["input_ids"] == expected["input_ids"]
        assert found["attention_mask"] == expected["attention_mask"]
        n_hits += expected["input_ids"] != [theirs.unk_token_id]
    assert 20 < n_hits < 200
    regions = [Region(*query, None) for query in queries]
    assert ours(regions)["input_ids"] == theirs(regions)["input_ids"]
    assert ours.tokenize(regions) == theirs.tokenize(regions)
    assert ours.get_vocab() == theirs.get_vocab()
    assert ours.special_tokens_map == theirs.special_tokens_map
    assert (ours.vocab_size, len(ours)) == (theirs.vocab_size, len(theirs))
    for role in ("unk", "pad", "mask", "cls", "eos", "bos", "sep"):
        assert getattr(ours, f"{role}_token") == getattr(theirs, f"{role}_token")
        assert getattr(ours, f"{role}_token_id") == getattr(theirs, f"{role}_token_id")
    tokens = [*theirs.tokenize(regions)[:5], "<pad>"]
    assert ours.convert_tokens_to_ids(tokens) == theirs.convert_tokens_to_ids(tokens)
    ids = [0, 7, len(theirs) - 1]
    assert ours.decode(ids) == theirs.decode(ids)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("chr1:130-151", [0, 3, 2]),  # by start, then end; not by id
        ("chr1:200-201", [2]),  # half-open at the start
        ("chr1:99-100", [5]),  # and at the end: <unk>
        ("chr1:160-160", [0, 2]),  # no width: what it lies within
        ("chrUn_1:5-9", [5]),
    ],
)
def test_known_answers(tokenizer, query, expected):
    assert tokenizer(query)["input_ids"] == expected


def test_order_of_queries_and_repeats_stay_and_unknown_ones_vanish_among_others(tokenizer):
    assert tokenizer(["chr2:0-99", "chr9:0-9", "chr1:999-1001", "chr2:0-99"])["input_ids"] == [1, 4, 1]
    assert tokenizer([])["input_ids"] == [tokenizer.unk_token_id]


def shapes_of(regions, folder):
    chrom, start, end = (list(column) for column in zip(*regions, strict=True))
    names = [f"{c}:{s}-{e}" for c, s, e in regions]
    frame = pd.DataFrame({"chrom": pd.Categorical(chrom), "start": start, "end": end, "name": "x"})
    yield "names", names
    yield "array of names", np.array(names)
    yield "index of names", pd.Index(names)
    yield "tuples", regions
    yield "tuple of tuples", tuple(regions)
    yield "lists", [list(region) for region in regions]
    yield "generator", (region for region in regions)
    yield "numpy integers", list(zip(chrom, np.array(start), np.array(end), strict=True))
    yield "bioframe", frame
    yield "pyranges", frame.set_axis(["Chromosome", "Start", "End", "Name"], axis=1)
    yield "adata.var without columns", pd.DataFrame(index=names)
    yield "objects with chrom", [SimpleNamespace(chrom=c, start=s, end=e) for c, s, e in regions]
    yield "objects and tuples", [regions[0], *(SimpleNamespace(chr=c, start=s, end=e) for c, s, e in regions[1:])]
    yield "pyranges 0", SimpleNamespace(df=frame.set_axis(["Chromosome", "Start", "End", "Name"], axis=1))
    yield "objects", [SimpleNamespace(chr=c, start=s, end=e) for c, s, e in regions]
    yield "bed", write_bed(folder / "query.bed", regions)
    yield "bed as str", str(write_bed(folder / "query.bed", regions))
    yield "rows of itertuples", list(frame.itertuples())
    yield (
        "rows of itertuples of pyranges",
        list(frame.set_axis(["Chromosome", "Start", "End", "Name"], axis=1).itertuples()),
    )
    yield "values of a table", frame.to_numpy()
    yield "lines of a file, split", [(c, str(s), str(e)) for c, s, e in regions]
    yield "lines of a file", [f"{name}\n" for name in names]
    yield "as a genome browser copies them", [f"{c}:{s:,}-{e:,}" for c, s, e in regions]
    yield "vocabulary", Vocabulary.from_bed(write_bed(folder / "query.bed", regions))


def test_all_shapes_of_regions_give_the_same(tokenizer, tmp_path):
    regions = [("chr1", 0, 130), ("chr2", 0, 60), ("chr1", 1500, 1501)]
    expected = [0, 3, 1, 4]
    seen = 0
    for shape, value in shapes_of(regions, tmp_path):
        assert tokenizer(value)["input_ids"] == expected, shape
        seen += 1
    assert seen == 24
    batch = [value for _, value in shapes_of(regions, tmp_path)]
    assert tokenizer([one for one in batch if not isinstance(one, SimpleNamespace)])["input_ids"] == [expected] * 23


def test_thousands_are_separated_as_a_genome_browser_does(tokenizer):
    assert tokenizer("chr1:1,500-1,000,501")["input_ids"] == tokenizer("chr1:1500-1000501")["input_ids"] == [4]
    assert tokenizer(" chr1:1,500-1501 ")["input_ids"] == [4]
    assert tokenizer([["chr1:1,500-1,501"], ["chr2:0-60"]])["input_ids"] == [[4], [1]]
    token = tokenizer.convert_ids_to_tokens(4)
    chrom, start, end = token.replace("-", ":").split(":")
    assert tokenizer.convert_tokens_to_ids(f"{chrom}:{int(start):,}-{int(end):,}") == 4


def test_shapes_of_gtars(tokenizer):
    models = pytest.importorskip("gtars.models")
    regions = [models.Region("chr1", 0, 130, None), models.Region("chr2", 0, 60, None)]
    assert tokenizer(regions)["input_ids"] == [0, 3, 1]
    assert tokenizer(regions[0])["input_ids"] == [0, 3]
    assert tokenizer(models.RegionSet.from_regions(regions))["input_ids"] == [0, 3, 1]
    assert tokenizer([regions, regions[:1]])["input_ids"] == [[0, 3, 1], [0, 3]]


def test_padding_and_truncation(tokenizer):
    batch = [["chr1:0-5000"], ["chr2:0-99"], []]
    pad, unk = tokenizer.pad_token_id, tokenizer.unk_token_id
    assert tokenizer(batch)["input_ids"] == [[0, 3, 2, 4], [1], [unk]]
    padded = tokenizer(batch, padding=True, truncation=True, max_length=3, return_tensors="np")
    assert padded["input_ids"].tolist() == [[0, 3, 2], [1, pad, pad], [unk, pad, pad]]
    assert padded["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0], [1, 0, 0]]
    assert padded.input_ids.dtype == np.int64
    assert tokenizer(batch, padding="max_length", max_length=5)["attention_mask"][1] == [1, 0, 0, 0, 0]
    assert tokenizer("chr2:0-99", padding="max_length", max_length=2)["input_ids"] == [1, pad]
    assert tokenizer.encode("chr1:0-5000", truncation=True, max_length=1) == [0]


def test_tensors_go_into_a_model_by_keyword(tokenizer):
    torch = pytest.importorskip("torch")
    batch = tokenizer([["chr1:0-5000"], ["chr2:0-99"]], padding=True, return_tensors="pt").to("cpu")

    def model(input_ids, attention_mask):
        return torch.where(attention_mask.bool(), input_ids, -1)

    assert isinstance(batch, Mapping)
    assert model(**batch).tolist() == [[0, 3, 2, 4], [1, -1, -1, -1]]
    assert tokenizer("chr2:0-99", return_tensors="pt")["input_ids"].tolist() == [[1]]
    assert tokenizer.decode(batch["input_ids"][1], skip_special_tokens=True) == ["chr2:50-80"]


def test_examples_tokenized_one_by_one_are_padded_to_one_batch(tokenizer):
    torch = pytest.importorskip("torch")
    batch = [["chr1:0-5000"], ["chr2:0-99"], []]
    whole = tokenizer(batch, padding=True, return_tensors="pt")
    examples = [tokenizer(one) | {"labels": n} for n, one in enumerate(batch)]
    padded = tokenizer.pad(examples, return_tensors="pt")
    assert all(torch.equal(padded[name], whole[name]) for name in whole)
    assert padded["labels"].tolist() == [0, 1, 2]
    assert tokenizer.pad(tokenizer(batch))["input_ids"] == whole["input_ids"].tolist()
    wide = tokenizer.pad(examples, pad_to_multiple_of=8, max_length=99, return_tensors="np")
    assert wide["input_ids"].shape == (3, 8)
    assert np.array_equal(wide["input_ids"][:, :4], whole["input_ids"])
    assert tokenizer.batch_decode(whole["input_ids"], skip_special_tokens=True) == [
        tokenizer.tokenize(batch[0]), ["chr2:50-80"], [],
    ]  # fmt: skip
    with pytest.raises(ValueError, match="Several lists: batch_decode"):
        tokenizer.decode(whole["input_ids"])
    with pytest.raises(ValueError, match=r"with 'input_ids'; found \['x'\]"):
        tokenizer.pad([{"x": 1}])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"return_tensors": "pt"}, "1 to 4 tokens.*padding=True"),
        ({"return_tensors": "tf"}, "return_tensors is 'tf'; expected"),
        ({"truncation": True}, "need max_length"),
        ({"padding": "max_length"}, "need max_length"),
        ({"padding": "left"}, "padding is 'left'; expected"),
        ({"max_length": 4}, "does nothing without"),
        ({"max_length": 0, "truncation": True}, "positive number"),
    ],
)
def test_options_that_do_not_go_together(tokenizer, options, message):
    with pytest.raises(ValueError, match=message):
        tokenizer([["chr1:0-5000"], ["chr2:0-99"]], **options)


@pytest.mark.parametrize(
    ("regions", "message"),
    [
        ("no_such_file.bed", "neither a region nor a file"),
        (["chr1:0-5", "chr1;0;5"], "1 of 2 names are not chrom:start-end"),
        ("chr1:0-1,0", "not chrom:start-end"),  # thousands are three digits
        (["chr1:1,0000-2,000"], "not chrom:start-end"),
        ([("chr1", 0, 5), "chr1:0-5"], "Region 1 is a string among others"),
        ([("chr1", -3, 5)], "start that is negative"),
        ([("chr1", 9, 5)], "end before they start .*chr1:9-5"),
        ([("chr1", 0.5, 5)], "start that is not an integer"),
        ([("chr1", 0, float("nan"))], "NaN"),
        ([("chr1", 0)], "Region 0 is"),
        ([1, 2], "Region 0 is 1"),
        (7, "Cannot read regions from a int"),
        (pd.DataFrame({"a": [1]}), r"columns \['a'\].*Expected"),
        (pd.DataFrame({"chrom": [None], "start": [1], "end": [2]}), "Region 0 has no chromosome"),
        (SimpleNamespace(obs_names=[], var_names=[]), "tokenize_anndata"),
    ],
)
def test_what_is_no_region_is_refused(tokenizer, regions, message):
    with pytest.raises(ValueError, match=message):
        tokenizer(regions)


def test_tokens_and_ids_there_and_back(tokenizer):
    ids = list(range(len(tokenizer)))
    tokens = tokenizer.convert_ids_to_tokens(ids)
    assert tokens[5:] == SPECIAL == tokenizer.all_special_tokens
    assert tokenizer.convert_tokens_to_ids(tokens) == ids == list(tokenizer.get_vocab().values())
    assert tokenizer.convert_ids_to_tokens(3) == "chr1:120-160"
    assert tokenizer.convert_tokens_to_ids("<pad>") == tokenizer.pad_token_id == 6
    # only the very same interval is a token
    assert tokenizer.convert_tokens_to_ids(["chr1:100-201", "nonsense", "chr2:50-80"]) == [5, 5, 1]
    assert tokenizer.get_special_tokens_mask(tokens) == tokenizer.get_special_tokens_mask(ids) == [0] * 5 + [1] * 7
    for wrong in (12, -1):
        with pytest.raises(ValueError, match=f"{wrong} is not a token id"):
            tokenizer.decode([wrong])


def test_special_tokens_of_our_own_models_are_numbered_as_the_vocabulary_does(small_genome):
    tokenizer = sf.Tokenizer.from_chrom_sizes(small_genome, special_tokens="scatacformer")
    vocabulary = tokenizer.vocabulary
    assert len(tokenizer) == vocabulary.n_tokens
    assert (tokenizer.cls_token_id, tokenizer.pad_token_id) == (vocabulary.cls_id, vocabulary.pad_id)
    eos = [f"<eos_{chrom}>" for chrom in vocabulary.chrom_names]
    assert tokenizer.convert_tokens_to_ids(eos) == vocabulary.eos_ids.tolist()
    assert tokenizer.special_tokens_map["additional_special_tokens"] == eos
    assert tokenizer.unk_token is None
    assert tokenizer("chr9:0-5")["input_ids"] == []  # no id that the model does not have
    with pytest.raises(ValueError, match="special_tokens is 'bert'; expected"):
        sf.Tokenizer(vocabulary, "bert")
    with pytest.raises(ValueError, match="eos_names are for special_tokens='scatacformer'"):
        sf.Tokenizer(vocabulary, "gtars", ["promoter"])
    with pytest.raises(ValueError, match="Expected a Vocabulary; found str"):
        sf.Tokenizer("hg38")


def test_made_from_the_same_regions_is_the_same(tokenizer, tmp_path):
    anndata = pytest.importorskip("anndata")
    frame = pd.DataFrame(REGIONS, columns=["chrom", "start", "end"]).set_axis([f"peak{i}" for i in range(5)])
    adata = anndata.AnnData(np.ones((1, 5), dtype=np.float32), var=frame)
    assert sf.Tokenizer.from_anndata(adata) == tokenizer
    assert sf.Tokenizer.from_vocabulary(tokenizer.vocabulary) == tokenizer
    assert sf.Tokenizer.from_vocabulary(SimpleNamespace(vocabulary=tokenizer.vocabulary)) == tokenizer
    assert sf.Tokenizer.from_vocabulary(tokenizer.vocabulary, "scatacformer") != tokenizer


def test_travels_to_workers(tokenizer):
    before = tokenizer("chr1:0-5000")["input_ids"]
    state = pickle.dumps(tokenizer)
    for other in (pickle.loads(state), copy.deepcopy(tokenizer)):
        assert other == tokenizer
        assert hash(other) == hash(tokenizer)
        assert other("chr1:0-5000")["input_ids"] == before
    big = sf.Tokenizer.from_chrom_sizes({"chr1": 5_000_000}, 100)
    empty = len(pickle.dumps(big))
    big("chr1:5-9")
    assert len(pickle.dumps(big)) == empty  # what was computed stays at home


def test_one_wide_region_does_not_slow_the_others():
    n = 100_000
    start = np.append(np.arange(n) * 10, 0)
    with pytest.warns(UserWarning, match="overlap"):
        vocabulary = Vocabulary(("c",), np.zeros(n + 1, int), start, np.append(start[:-1] + 5, 10 * n))
    queries = pd.DataFrame({"chrom": "c", "start": np.arange(n) * 10 + 1, "end": np.arange(n) * 10 + 3})
    ids = np.array(sf.Tokenizer(vocabulary)(queries)["input_ids"]).reshape(n, 2)
    assert ids[0].tolist() == [0, n]  # both start at 0, the narrow one ends first
    assert np.array_equal(ids[1:], np.column_stack([np.full(n - 1, n), np.arange(1, n)]))


def test_regions_that_leave_no_token_are_counted(tokenizer):
    """Two of four have none; `<unk>` says it where nothing is left, and so does a warning where there is no `<unk>`."""
    some = ["chr1:100-200", "chr9:0-5", "chr2:50-60", "chr1:5000-6000"]
    with pytest.warns(UserWarning, match=r"2 of 4 regions overlap no region .*first: chr9:0-5.*chr1, chr2"):
        assert len(tokenizer(some)["input_ids"]) == 4  # chr1:100-200 overlaps three
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert tokenizer(["chr9:0-5", "chr8:0-5"])["input_ids"] == [tokenizer.unk_token_id]
        tokenizer(["chr1:100-200", "chr2:50-60"])
        tokenizer([])
    without = sf.Tokenizer(tokenizer.vocabulary, "scatacformer")
    with pytest.warns(UserWarning, match="3 of 5 regions"):
        assert without([some, ["chr9:0-5"]])["input_ids"][1] == []
