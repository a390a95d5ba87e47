from __future__ import annotations

import gzip
import json
import socket

import pytest

import scatacformer as sf

GOOD = "chr1\t100\t200\nchr2\t50\t80\nchr1\t150\t400\n"


def bed(path, text):
    path.write_text(text)
    return path


# ---- BED files as people have them


@pytest.mark.parametrize(
    "text",
    [
        "#assembly=hg38\n" + GOOD,
        "# a comment\n#chrom\tstart\tend\n" + GOOD,
        'track name="peaks"\nbrowser position chr1\n' + GOOD,
        GOOD + "\n\n  \n",
        "\n" + GOOD + "\n\t\n   \n \t \n",
        GOOD.replace("\n", "\r\n"),
        GOOD.replace("\n", "\tpeak\n"),
        GOOD.replace("\n", "\tpeak\t5\t+\n"),
        GOOD.rstrip("\n"),
    ],
    ids=[
        "ours",
        "comments",
        "track",
        "blank lines",
        "white space",
        "windows",
        "four columns",
        "six columns",
        "no last line break",
    ],
)
def test_ids_are_numbers_of_intervals_whatever_else_is_in_the_file(tmp_path, text):
    expected = sf.Tokenizer.from_bed(bed(tmp_path / "good.bed", GOOD))
    assert sf.Tokenizer.from_bed(bed(tmp_path / "u.bed", text)) == expected
    (tmp_path / "u.bed.gz").write_bytes(gzip.compress(text.encode()))
    assert sf.Tokenizer.from_bed(tmp_path / "u.bed.gz") == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD + "chr2\t50\t80\nchr9\t1\t2\nchr1\t100\t200\n", r"line 4 repeats line 2 .*2 lines.*\(lines 4, 6\)"),
        (GOOD + "chr3 5 9\n", r"line 4 \('chr3 5 9'\): its columns are separated by spaces"),
        (GOOD.replace("\t", " "), "line 1 .*separated by spaces"),
        (GOOD + "chr3\t5\n", r"line 4 .*it has 2 column"),
        (GOOD + "chr3\t9\t5\n", "line 4 .*ends at or before its start"),
        (GOOD + "chr3\t9\t9\n", "line 4 .*ends at or before its start"),
        (GOOD + "chr3\t-9\t5\n", "line 4 .*start is negative"),
        (GOOD + "chr3\t1.5\t5\n", "line 4 .*not integers"),
        ("chrom\tstart\tend\n" + GOOD, "line 1 .*not integers; a line of column names must begin with '#'"),
        (GOOD + "chr3\t5\t3000000000\n", "line 4 .*beyond 2,147,483,647"),
        (GOOD + "chr3\t5\t99999999999999999999\n", "line 4 .*beyond 2,147,483,647"),
        (GOOD + "\t5\t9\n", "line 4 .*has no chromosome"),
        (GOOD + "chr2\t50\t80\n", r"in all 1 line is a duplicate of another \(line 4\)"),
        (GOOD + "track name=x\n" + GOOD, "line 4 .*header after the first interval"),
        ("", "is empty"),
        ("#only a header\n\n", "is empty"),
    ],
)
def test_what_is_no_universe_is_refused_with_its_line(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        sf.Tokenizer.from_bed(bed(tmp_path / "u.bed", text))


def test_half_a_download_is_refused(tmp_path):
    lines = "".join(f"chr1\t{i * 7}\t{i * 7 + 5 + i % 11}\n" for i in range(2_000))
    whole = gzip.compress(lines.encode())
    path = tmp_path / "universe.bed.gz"
    for stop in (len(whole) // 2, len(whole) - 4, 30):
        path.write_bytes(whole[:stop])
        with pytest.raises(ValueError, match="truncated or damaged gzip"):
            sf.Tokenizer.from_bed(path)
        with pytest.raises(ValueError, match="truncated or damaged gzip"):
            sf.Tokenizer.from_pretrained(tmp_path)
    path.write_bytes(b"")
    with pytest.raises(ValueError, match="is empty"):
        sf.Tokenizer.from_bed(path)
    with pytest.raises(FileNotFoundError, match="The BED file .* does not exist"):
        sf.Tokenizer.from_bed(tmp_path / "absent.bed")


# ---- folders


@pytest.mark.parametrize("special_tokens", ["gtars", "scatacformer"])
def test_saved_and_read_again_it_is_the_same(tmp_path, special_tokens):
    path = bed(tmp_path / "u.bed", GOOD)
    tokenizer = sf.Tokenizer.from_bed(path, assembly="hg38", special_tokens=special_tokens)
    tokenizer.save_pretrained(tmp_path / "a" / "b")
    again = sf.Tokenizer.from_pretrained(tmp_path / "a" / "b")
    assert again == tokenizer
    assert again.vocabulary.assembly == "hg38"
    assert len(again) == len(tokenizer)
    assert sorted(p.name for p in (tmp_path / "a" / "b").iterdir()) == ["tokenizer_config.json", "vocabulary.bed.gz"]


def test_gtars_reads_ours_and_we_read_theirs(tmp_path):
    gtars = pytest.importorskip("gtars.tokenizers")
    ours = sf.Tokenizer.from_bed(bed(tmp_path / "u.bed", GOOD), assembly="hg38")
    ours.save_pretrained(tmp_path / "folder", for_gtars=True)
    theirs = gtars.Tokenizer.from_pretrained(str(tmp_path / "folder"))
    assert theirs.get_vocab() == ours.get_vocab()
    (tmp_path / "folder" / "tokenizer_config.json").unlink()
    (tmp_path / "folder" / "vocabulary.bed.gz").unlink()
    assert sf.Tokenizer.from_pretrained(tmp_path / "folder") == ours
    other = sf.Tokenizer(ours.vocabulary, "scatacformer")
    with pytest.raises(ValueError, match="special_tokens='gtars'"):
        other.save_pretrained(tmp_path / "other", for_gtars=True)
    assert not (tmp_path / "other").exists()


def test_the_folder_of_a_model_gives_the_ids_of_the_model(tmp_path):
    vocabulary = sf.Tokenizer.from_bed(bed(tmp_path / "u.bed", GOOD)).vocabulary
    vocabulary.to_bed(tmp_path / "vocabulary.bed.gz")
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"assembly": "hg38", "vocabulary": vocabulary.checksum}))
    tokenizer = sf.Tokenizer.from_pretrained(tmp_path)
    assert tokenizer == sf.Tokenizer(vocabulary, "scatacformer")
    assert tokenizer.vocabulary.assembly == "hg38"
    # a model that reads its regions by class has other <eos>, and as many as there are classes
    config.write_text(
        json.dumps({"vocabulary": vocabulary.checksum, "state": {"attributes": {"eos_names_": ["promoter", "else"]}}})
    )
    tokenizer = sf.Tokenizer.from_pretrained(tmp_path)
    assert tokenizer.all_special_tokens == ["<cls>", "<pad>", "<eos_promoter>", "<eos_else>"]
    tokenizer.save_pretrained(tmp_path / "again")
    assert sf.Tokenizer.from_pretrained(tmp_path / "again") == tokenizer != sf.Tokenizer(vocabulary, "scatacformer")
    with pytest.raises(ValueError, match="is a folder here and has no revisions"):
        sf.Tokenizer.from_pretrained(tmp_path, revision="main")
    config.write_text(json.dumps({"assembly": "hg38", "vocabulary": "0" * 64}))
    with pytest.raises(ValueError, match="is not the vocabulary that config.json names"):
        sf.Tokenizer.from_pretrained(tmp_path)


def test_a_failed_save_leaves_the_old_files(tmp_path, monkeypatch):
    ours = sf.Tokenizer.from_bed(bed(tmp_path / "u.bed", GOOD))
    ours.save_pretrained(tmp_path / "folder")
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        sf.Tokenizer(ours.vocabulary, "scatacformer").save_pretrained(tmp_path / "folder")
    monkeypatch.undo()
    assert sf.Tokenizer.from_pretrained(tmp_path / "folder") == ours
    assert len(list((tmp_path / "folder").iterdir())) == 2  # no partial file


def test_a_folder_that_is_not_whole_is_refused(tmp_path):
    folder = tmp_path / "folder"
    sf.Tokenizer.from_bed(bed(tmp_path / "u.bed", GOOD)).save_pretrained(folder)
    config = folder / "tokenizer_config.json"
    content = config.read_text()

    def refused(message):
        with pytest.raises(ValueError, match=message):
            sf.Tokenizer.from_pretrained(folder)

    config.write_text(content[:40])
    refused("truncated or not JSON")
    config.write_text("[]")
    refused("holds a list, expected an object")
    config.write_text(content.replace('"scatacformer_format": 1', '"scatacformer_format": 2'))
    refused("expected at most 1; update scatacformer")
    config.write_text(json.dumps(json.loads(content) | {"special_tokens": "bert"}))
    refused("names special tokens 'bert'")
    config.write_text(content)
    other = bed(tmp_path / "v.bed", GOOD.replace("80", "81"))
    (folder / "vocabulary.bed.gz").write_bytes(gzip.compress(other.read_bytes()))
    refused("its checksum differs")
    (folder / "vocabulary.bed.gz").unlink()
    refused("vocabulary.bed.gz is missing")
    config.unlink()
    refused("holds no tokenizer: expected .*universe.bed.gz; found nothing")
    with pytest.raises(ValueError, match="is a file; a tokenizer is a folder"):
        sf.Tokenizer.from_pretrained(tmp_path / "u.bed")
    with pytest.raises(ValueError, match="is a file; a tokenizer is saved"):
        sf.Tokenizer.from_bed(tmp_path / "u.bed").save_pretrained(tmp_path / "u.bed")


# ---- the hub, without a network


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache of the hub that holds databio/some, revisions main and v1; whoever asks for the network fails."""
    pytest.importorskip("huggingface_hub")

    def no_network(*_, **__):
        raise OSError("no network in tests")

    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    repo = tmp_path / "cache" / "models--databio--some"
    for revision, commit, text in (("main", "a" * 40, GOOD), ("v1", "b" * 40, GOOD[:13])):
        (repo / "refs").mkdir(parents=True, exist_ok=True)
        (repo / "refs" / revision).write_text(commit)
        (repo / "snapshots" / commit).mkdir(parents=True)
        (repo / "snapshots" / commit / "universe.bed.gz").write_bytes(gzip.compress(text.encode()))
    return tmp_path / "cache"


def test_what_is_in_the_cache_needs_no_network(cache):
    tokenizer = sf.Tokenizer.from_pretrained("databio/some", cache_dir=cache, local_files_only=True)
    assert tokenizer.vocabulary.n_bins == 3
    older = sf.Tokenizer.from_pretrained("databio/some", revision="v1", cache_dir=cache, local_files_only=True)
    assert older.vocabulary.names.tolist() == ["chr1:100-200"]


def test_offline_is_said_so(cache):
    with pytest.raises(
        OSError, match=r"databio/other is no folder here and not in the cache.*local_files_only=True was asked for"
    ):
        sf.Tokenizer.from_pretrained("databio/other", cache_dir=cache, local_files_only=True)
    with pytest.raises(OSError, match=r"some \(revision v2\) is no folder here and not in the cache"):
        sf.Tokenizer.from_pretrained("databio/some", revision="v2", cache_dir=cache, local_files_only=True)


def test_no_network_is_said_so(cache):
    with pytest.raises(OSError, match=r"databio/other is no folder here and not in the cache.*cannot be reached"):
        sf.Tokenizer.from_pretrained("databio/other", cache_dir=cache)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        ("RepositoryNotFoundError", "no repository 'databio/other', or it is private"),
        ("RevisionNotFoundError", "databio/other has no revision 'v9'"),
        ("GatedRepoError", "open only to those who accepted its terms"),
    ],
)
def test_what_the_hub_refuses_is_said_so(monkeypatch, error, message):
    errors = pytest.importorskip("huggingface_hub.errors")

    def refuse(*_, **__):
        kind = getattr(errors, error)
        raise kind.__new__(kind, "404")  # without the response of a server, which their makers ask for

    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)
    with pytest.raises(ValueError, match=message):
        sf.Tokenizer.from_pretrained("databio/other", revision="v9")


@pytest.mark.parametrize("name", ["./absent", "/absent/folder", "a/b/c", "a..b", "two words"])
def test_what_is_neither_folder_nor_repository(name):
    with pytest.raises(ValueError, match="neither a folder that exists nor the name of a repository"):
        sf.Tokenizer.from_pretrained(name)


def test_without_huggingface_hub_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    with pytest.raises(ImportError, match=r"scatacformer\[hub\]"):
        sf.Tokenizer.from_pretrained("databio/some")


# ---- killed, shared, damaged


def test_killed_at_every_step_the_folder_is_the_old_or_the_new(tmp_path, killed_at):
    old = sf.Tokenizer.from_bed(bed(tmp_path / "a.bed", GOOD))
    new = sf.Tokenizer.from_bed(bed(tmp_path / "b.bed", GOOD + "chr9\t1\t2\n"))
    folder, k, seen = tmp_path / "t", 0, set()
    while True:
        k += 1
        old.save_pretrained(folder, for_gtars=True)
        killed = killed_at(k, lambda: new.save_pretrained(folder))
        found = sf.Tokenizer.from_pretrained(folder)
        assert found in (old, new)
        seen.add(found)
        if not killed:
            break
    assert seen == {old, new}
    # the universe of the old one would give gtars other ids
    assert sorted(path.name for path in folder.iterdir()) == ["tokenizer_config.json", "vocabulary.bed.gz"]


def test_a_model_of_other_regions_keeps_its_vocabulary(tmp_path):
    tokenizer = sf.Tokenizer.from_bed(bed(tmp_path / "u.bed", GOOD))
    (tmp_path / "config.json").write_text(json.dumps({"vocabulary": "0" * 64}))
    with pytest.raises(ValueError, match="holds a model of other regions"):
        tokenizer.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"vocabulary": tokenizer.vocabulary.checksum}))
    tokenizer.save_pretrained(tmp_path)
    assert sf.Tokenizer.from_pretrained(tmp_path) == tokenizer


@pytest.mark.parametrize("layout", [["gtars"], {}, 3, "other"])
def test_special_tokens_of_another_type_are_refused_by_name(tmp_path, layout):
    sf.Tokenizer.from_bed(bed(tmp_path / "u.bed", GOOD)).save_pretrained(tmp_path / "t")
    path = tmp_path / "t" / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"special_tokens": layout}))
    with pytest.raises(ValueError, match=r"tokenizer_config\.json names special tokens"):
        sf.Tokenizer.from_pretrained(tmp_path / "t")
