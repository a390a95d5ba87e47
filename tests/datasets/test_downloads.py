"""Downloads against a local server: one download, a cache, checksums, and errors that say what to do."""

from __future__ import annotations

import functools
import gzip
import hashlib
import http.server
import threading

import numpy as np
import pytest

import scatacformer as sf
from scatacformer.datasets import _downloads
from scatacformer.datasets._downloads import Remote


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        self.server.asked.append(self.path)


@pytest.fixture
def server(tmp_path):
    """(folder that it serves, address, paths that were asked for)."""
    folder = tmp_path / "served"
    folder.mkdir()
    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        running.asked = []
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{running.server_port}", running.asked
        running.shutdown()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SCATACFORMER_DATA", str(tmp_path / "cache"))
    return tmp_path / "cache"


def serve(server, monkeypatch, name, content, checksum=None):
    folder, address, _ = server
    (folder / name).write_bytes(content)
    monkeypatch.setitem(_downloads.FILES, name, Remote(f"{address}/{name}", checksum))


NAME = "atac_pbmc_500_fragments.tsv.gz"
CONTENT = gzip.compress(b"chr1\t100\t200\tAAA-1\t1\n")


@pytest.mark.parametrize("known", [True, False])
def test_a_file_is_downloaded_once(server, cache, monkeypatch, known):
    checksum = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}" if known else None
    serve(server, monkeypatch, NAME, CONTENT, checksum)
    path = sf.datasets.pbmc500()
    assert path.read_bytes() == CONTENT
    assert path.parent == cache
    assert sf.datasets.pbmc500() == path
    assert len(server[2]) == 1


def test_another_content_than_the_known_one_is_refused_and_not_kept(server, cache, monkeypatch):
    serve(server, monkeypatch, NAME, b"something else", f"sha256:{hashlib.sha256(CONTENT).hexdigest()}")
    with pytest.raises(ValueError, match="is not the file that is expected"):
        sf.datasets.pbmc500()
    assert not (cache / NAME).exists()


@pytest.mark.parametrize("known", [True, False])
def test_a_file_that_changed_in_the_cache_is_refused(server, cache, monkeypatch, known):
    checksum = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}" if known else None
    serve(server, monkeypatch, NAME, CONTENT, checksum)
    sf.datasets.pbmc500().write_bytes(CONTENT[:-3])
    with pytest.raises(ValueError, match="Remove it, and it is downloaded again"):
        sf.datasets.pbmc500()


def test_a_server_without_the_file_is_an_error_that_says_what_to_do(server, cache, monkeypatch):
    monkeypatch.setitem(_downloads.FILES, NAME, Remote(f"{server[1]}/absent.gz", None))
    with pytest.raises(OSError, match=r"absent.gz could not be downloaded .* put it at .*SCATACFORMER_DATA"):
        sf.datasets.pbmc500()
    assert not (cache / NAME).exists()


def test_the_blood_progenitors_are_read(server, cache, monkeypatch):
    names = ["singles-BM0828-HSC-fresh-151027-1", "BM1077-LMPP-Frozen-160105-2", "other"]
    counts = "#\t" + ";".join(names) + "\n1\t1\t2\n3\t1\t1\n2\t3\t4\n"
    peaks = "chr1\t100\t600\tx\nchr1\t1000\t1500\ty\nchr2\t5\t505\tz\n"
    serve(server, monkeypatch, "buenrostro_2018_counts.txt.gz", gzip.compress(counts.encode()))
    serve(server, monkeypatch, "buenrostro_2018_peaks.bed.gz", gzip.compress(peaks.encode()))
    adata = sf.datasets.buenrostro2018()
    np.testing.assert_array_equal(adata.X.toarray(), [[2, 0, 1], [0, 0, 0], [0, 4, 0]])
    assert adata.obs["cell_type"].tolist()[:2] == ["HSC", "LMPP"]
    assert adata.obs["cell_type"].isna().tolist() == [False, False, True]
    assert list(adata.var_names) == ["chr1:100-600", "chr1:1000-1500", "chr2:5-505"]
    assert adata.uns["assembly"] == "hg19"


def test_counts_of_cells_that_are_not_named_are_refused(server, cache, monkeypatch):
    serve(server, monkeypatch, "buenrostro_2018_counts.txt.gz", gzip.compress(b"#\ta;b\n1\t3\t2\n"))
    serve(server, monkeypatch, "buenrostro_2018_peaks.bed.gz", gzip.compress(b"chr1\t100\t600\n"))
    with pytest.raises(ValueError, match="has entries beyond its 2 cells"):
        sf.datasets.buenrostro2018()


def test_every_file_has_an_address_and_a_checksum_or_none():
    for name, remote in _downloads.FILES.items():
        assert remote.url.startswith("https://"), name
        assert remote.checksum is None or remote.checksum.split(":")[0] in ("sha256", "md5")
