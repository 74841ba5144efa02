import json

import pytest

from heteromics.errors import UnreadableFile
from heteromics.priors.gene_sets import read_gene_sets, read_gmt, read_msigdb_json
from tests.priors.prior_files import written
from tests.priors.test_pathways import GMT


def test_gmt_is_read_with_repeats_counted_and_empty_sets_kept(tmp_path):
    for name in ("sets.gmt", "sets.gmt.gz"):
        sets = read_gmt(written(tmp_path / name, GMT))
        assert [one.name for one in sets] == ["STRESS", "SUGAR", "NONE", "EMPTY", "RNA"]
        assert sets[0] == ("STRESS", "http://one", ("TP53", "JUN"), 1)
        assert sets[1].members == ("GAPDH", "JUN", "TP53")
        assert sets[3].members == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("A\tx\tTP53\nB TP53 JUN\n", r"line 2: found 'B TP53 JUN', expected name, description and genes separated by"),
        ("A\tx\tTP53\n\nB\ty\tJUN\nA\tz\tJUN\n", r"line 4: gene set A was given in line 1 already"),
        ("\n", "no gene set in it"),
        ("\tx\tTP53\n", "line 1: found"),
    ],
)
def test_broken_gmt_lines_are_named(tmp_path, text, message):
    with pytest.raises(UnreadableFile, match=message):
        read_gmt(written(tmp_path / "sets.gmt", text))


def test_lost_tabs_and_dos_lines(tmp_path):
    with pytest.raises(UnreadableFile, match="line 1: found 'A x TP53 JUN', expected name, description and genes"):
        read_gene_sets(written(tmp_path / "sets.gmt", "A x TP53 JUN\n"))
    (one,) = read_gene_sets(written(tmp_path / "sets.gmt", "\r\nA\tx\tTP53\tJUN\r\n"))
    assert one == ("A", "x", ("TP53", "JUN"), 0)


def test_msigdb_json_keeps_order_repeats_and_source(tmp_path):
    loaded = {
        "B": {"systematicName": "M1", "exactSource": "GO:1", "geneSymbols": ["TP53", "JUN", "TP53"]},
        "A": {"collection": "C2:CP", "exactSource": "", "msigdbURL": "http://a", "geneSymbols": []},
    }
    for indent, name in ((None, "sets.json.gz"), (1, "sets.json")):
        assert read_gene_sets(written(tmp_path / name, json.dumps(loaded, indent=indent))) == [
            ("B", "GO:1", ("TP53", "JUN"), 1),
            ("A", "C2:CP, http://a", (), 0),
        ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"A": {"geneSymbols": ["TP53"]}, "A": {"geneSymbols": []}}', "1 gene sets are given twice: A"),
        ('{"A": {"genes": ["TP53"], "url": ""}}', "gene set A holds genes, url, expected geneSymbols"),
        ('{"A": ["TP53"]}', "gene set A holds list, expected geneSymbols"),
        ('{"A": {"geneSymbols": [7157]}}', "gene set A holds geneSymbols, expected geneSymbols, a list of symbols"),
        ('{"A":\n {"geneSymbols": ["TP53"', "line 2: broken JSON"),
        ("{}", "no gene set in it"),
        ("[]", "no gene set in it"),
    ],
)
def test_broken_json_is_named(tmp_path, text, message):
    with pytest.raises(UnreadableFile, match=message):
        read_msigdb_json(written(tmp_path / "sets.json", text))


def test_truncated_gzip_is_said_to_be(tmp_path):
    text = json.dumps({f"SET{row}": {"geneSymbols": [f"GENE{row * 7919 % 65_537}"]} for row in range(20_000)})
    whole = written(tmp_path / "sets.json.gz", text).read_bytes()
    (tmp_path / "cut.json.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UnreadableFile, match=r"cut.json.gz: truncated or damaged gzip"):
        read_gene_sets(tmp_path / "cut.json.gz")
