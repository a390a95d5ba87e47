"""`scatacformer corpus`: what is typed becomes a corpus; what is wrong is said in one line."""

from __future__ import annotations

import pytest

from scatacformer import Corpus
from scatacformer.cli import main
from scatacformer.corpus import read_config


@pytest.fixture
def sources(tmp_path, small_adata, small_genome):
    small_adata[:40].copy().write_h5ad(tmp_path / "a.h5ad")
    small_adata[40:90].copy().write_h5ad(tmp_path / "b.h5ad")
    sizes = tmp_path / "g.sizes"
    sizes.write_text("".join(f"{name}\t{size}\n" for name, size in small_genome.items()))
    return tmp_path


def run(capsys, *argv):
    code = main([str(argument) for argument in argv])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_build_validate_show(sources, capsys):
    inputs = (sources / "a.h5ad", sources / "b.h5ad", "--chrom-sizes", sources / "g.sizes")
    code, out, err = run(
        capsys, "corpus", "build", sources / "c", *inputs, "--min-bins", 10, "--labels-key", "cell_type"
    )
    assert code == 0 and "90 cells" in out and "data set 1 of 2: a is being built" in err
    assert Corpus(sources / "c").obs["label"].notna().all()
    code, out, err = run(
        capsys, "corpus", "build", sources / "c", *inputs, "--min-bins", 10, "--labels-key", "cell_type"
    )
    assert code == 0 and "a is kept" in err
    code, out, _ = run(capsys, "corpus", "validate", sources / "c", "--deep")
    assert code == 0 and "90 cells" in out
    code, out, _ = run(capsys, "corpus", "show", sources / "c")
    assert code == 0 and out.strip() == (sources / "c" / "README.md").read_text().strip()
    (sources / "a.h5ad").write_bytes(b"changed")
    code, out, err = run(capsys, "corpus", "validate", sources / "c")
    assert code == 2 and out == "" and "a.h5ad changed since" in err and "Build again" in err


CONFIG = """
folder = "c"
chrom_sizes = "g.sizes"
min_bins = 10

[[source]]
path = "a.h5ad"
organ = "lung"
batch_key = "batch"

[[source]]
path = "b.h5ad"
"""


def test_config(sources, capsys):
    (sources / "corpus.toml").write_text(CONFIG)
    assert run(capsys, "corpus", "build", sources / "corpus.toml")[0] == 0
    corpus = Corpus(sources / "c")
    assert corpus.n_cells == 90 and sorted(corpus.batch_names) == ["a:batch 1", "a:batch 2", "b"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("min_bins", "min_bin"), "unknown key 'min_bin'. Did you mean 'min_bins'?"),
        (("batch_key", "batchkey"), "source 1 has the unknown key 'batchkey'. Did you mean 'batch_key'?"),
        (('folder = "c"', ""), "lacks folder"),
        (('path = "b.h5ad"', 'name = "b"'), "source 2, lacks path"),
        (("min_bins = 10", "min_bins = "), "is not TOML"),
        (("min_bins = 10", 'genome = "hg38"'), "genome and chrom_sizes"),
        (('path = "b.h5ad"', 'path = "."\nlayout = "geo"'), "layout 'geo'"),
        (('path = "b.h5ad"', 'path = "."\nlayout = "10x"'), "no *fragments.tsv.gz"),
        (("a.h5ad", "absent.h5ad"), "does not exist. Check the path"),
        (('folder = "c"', "folder = 5"), "corpus.toml: folder is 5; expected a text"),
        (("min_bins = 10", 'min_bins = "many"'), "corpus.toml: min_bins is 'many'; expected a whole number"),
        (("min_bins = 10", "min_bins = true"), "corpus.toml: min_bins is True; expected a whole number"),
        (('path = "b.h5ad"', "path = 5"), "corpus.toml, source 2: path is 5; expected a text"),
        (('path = "b.h5ad"', 'path = "b.h5ad"\nlayout = ["10x"]'), "source 2: layout is ['10x']; expected a text"),
        (('path = "b.h5ad"', 'path = "b.h5ad"\nmin_bins = 1.5'), "min_bins of a data set is 1.5"),
        (('organ = "lung"', "organ = [1]"), "corpus.toml, source 1: The organ of a data set is [1]"),
    ],
)
def test_configs_that_are_wrong(sources, capsys, change, message):
    (sources / "corpus.toml").write_text(CONFIG.replace(*change))
    code, out, err = run(capsys, "corpus", "build", sources / "corpus.toml")
    assert code == 2 and out == "" and message in err and len(err.splitlines()) == 1


def test_wrong_usage(sources, capsys):
    (sources / "corpus.toml").write_text(CONFIG)
    for argv, message in (
        (("build", sources / "c"), "there are no inputs for the corpus"),
        (
            ("build", sources / "corpus.toml", "--genome", "hg38"),
            "options and inputs cannot be combined with a config file",
        ),
        (("build", sources / "c", sources / "a.h5ad"), "Say which bins"),
        (("show", sources), "There is no corpus"),
    ):
        code, out, err = run(capsys, "corpus", *argv)
        assert code == 2 and out == "" and message in err
    with pytest.raises(FileNotFoundError, match="does not exist. Check the path"):
        read_config(sources / "absent.toml")
