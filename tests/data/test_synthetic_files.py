import filecmp
import gzip
import re

import memelite
import mudata
import numpy as np
import pandas as pd
import pyfaidx
import pytest

from heteromics.data.synthetic import SyntheticConfig, networks, simulate
from heteromics.data.synthetic import write as writing
from heteromics.errors import DataError

SMALL = SyntheticConfig(
    n_cells=100, n_cell_types=3, n_genes=60, n_peaks=300, n_proteins=8, n_tfs=5, n_chromosomes=3,
    chromosome_bp=1_000_000,
)  # fmt: skip


@pytest.fixture(scope="module")
def made():
    return simulate(SMALL, seed=3)


@pytest.fixture(scope="module")
def folder(made, tmp_path_factory):
    return made.write(tmp_path_factory.mktemp("written") / "multiome")


def read_lines(path):
    return gzip.decompress(path.read_bytes()).decode().splitlines()


@pytest.fixture(scope="module")
def gtf(folder):
    """The lines of the GTF, read with plain means: 1-based closed coordinates as in the file."""
    rows = [line.split("\t") for line in read_lines(folder / "genes.gtf.gz") if not line.startswith("#")]
    table = pd.DataFrame(rows, columns=["chrom", "source", "feature", "start", "end", "", "strand", "", "attributes"])
    for key in ("gene_id", "gene_name", "gene_type", "transcript_id", "exon_number"):
        table[key] = table["attributes"].str.extract(rf'{key} "?([^";]+)"?;', expand=False)
    return table.astype({"start": int, "end": int})


def test_names_of_the_files(folder):
    assert sorted(path.name for path in folder.iterdir()) == [
        "SYNTHETIC.txt", "chrom.sizes", "distractors.parquet", "genes.gtf.gz", "genome.fa", "genome.fa.fai",
        "motifs.meme", "multiome.h5mu", "pathways.gmt", "peaks.bed", "regulons.csv", "string.aliases.txt.gz",
        "string.info.txt.gz", "string.links.txt.gz", "truth.parquet",
    ]  # fmt: skip


def test_every_file_that_can_hold_a_word_is_labelled_synthetic(folder):
    about = (folder / "SYNTHETIC.txt").read_text()
    assert about.startswith("SYNTHETIC: made by the heteromics simulator, not measured.")
    assert "seed 3" in about
    assert '"n_genes": 60' in about
    assert read_lines(folder / "genes.gtf.gz")[0].startswith("##description: SYNTHETIC")
    assert (folder / "peaks.bed").read_text().startswith("# SYNTHETIC")
    headers = [line for line in (folder / "genome.fa").read_text().splitlines() if line.startswith(">")]
    assert [header.split()[:2] for header in headers] == [[f">chr{i}", "SYNTHETIC:"] for i in (1, 2, 3)]
    assert all("\tSYNTHETIC" in line for line in (folder / "pathways.gmt").read_text().splitlines())
    assert all("\tSYNTHETIC" in line for line in read_lines(folder / "string.info.txt.gz")[1:])


def test_h5mu_round_trip(made, folder):
    with mudata.set_options(pull_on_update=False):
        back = mudata.read_h5mu(folder / "multiome.h5mu")
    assert list(back.mod) == ["rna", "atac", "protein"]
    assert back.uns["synthetic"]
    pd.testing.assert_frame_equal(back.obs, made.mdata.obs, check_names=False)
    np.testing.assert_array_equal(back.obsm["spatial"], made.mdata.obsm["spatial"])
    for name, modality in made.mdata.mod.items():
        assert back[name].X.format == "csr"
        assert back[name].X.dtype == np.int32
        assert (back[name].X != modality.X).nnz == 0
        assert back[name].uns["synthetic"]
        pd.testing.assert_frame_equal(back[name].obs, modality.obs, check_names=False)
        pd.testing.assert_frame_equal(back[name].var, modality.var, check_names=False)


def test_truth_round_trip(made, folder):
    pd.testing.assert_frame_equal(pd.read_parquet(folder / "truth.parquet"), made.truth)
    pd.testing.assert_frame_equal(pd.read_parquet(folder / "distractors.parquet"), made.distractors)


def test_gtf_says_what_the_gene_table_says(made, gtf):
    genes = gtf[gtf["feature"] == "gene"].reset_index(drop=True)
    assert (genes["gene_name"] == made.genes["gene"]).all()
    assert (genes["gene_id"] == made.genes["gene_id"] + "." + made.genes["version"].astype(str)).all()
    assert (genes["gene_type"] == made.genes["biotype"]).all()
    assert (genes["start"] - 1 == made.genes["chrom_start"]).all()
    assert (genes["end"] == made.genes["chrom_end"]).all()
    tss = np.where(genes["strand"] == "+", genes["start"] - 1, genes["end"] - 1)
    np.testing.assert_array_equal(tss, made.genes["tss"])
    assert list(made.mdata["rna"].var_names) == list(genes["gene_name"])


def test_gtf_exons_lie_in_order_of_transcription(gtf):
    exons = gtf[gtf["feature"] == "exon"]
    assert set(exons["gene_id"]) == set(gtf["gene_id"])
    transcripts = gtf[gtf["feature"] == "transcript"].set_index("transcript_id")
    for name, group in exons.groupby("transcript_id"):
        assert group["exon_number"].astype(int).tolist() == list(range(1, len(group) + 1))
        rising = group if transcripts.loc[name, "strand"] == "+" else group[::-1]
        assert (rising["start"].to_numpy()[1:] > rising["end"].to_numpy()[:-1]).all()
        assert group["start"].min() == transcripts.loc[name, "start"]
        assert group["end"].max() == transcripts.loc[name, "end"]


def test_fasta_index_sizes_peaks_and_genes_agree(made, folder, gtf):
    sizes = pd.read_csv(folder / "chrom.sizes", sep="\t", names=["chrom", "size"]).set_index("chrom")["size"]
    with pyfaidx.Fasta(str(folder / "genome.fa"), rebuild=False) as fasta:
        assert {name: len(record) for name, record in fasta.items()} == sizes.to_dict()
        assert str(fasta["chr2"][:]) == made.sequence("chr2")
        bed = pd.read_csv(folder / "peaks.bed", sep="\t", comment="#", names=["chrom", "start", "end", "name"])
        first = bed.iloc[0]
        letters = str(fasta[first["chrom"]][first["start"] : first["end"]])
        assert letters == made.sequence(first["chrom"])[first["start"] : first["end"]]
        assert set(letters) == set("ACGT")
    assert (bed["end"] <= bed["chrom"].map(sizes)).all()
    assert (bed["name"] == bed["chrom"] + ":" + bed["start"].astype(str) + "-" + bed["end"].astype(str)).all()
    assert list(bed["name"]) == list(made.mdata["atac"].var_names)
    assert (gtf["end"] <= gtf["chrom"].map(sizes)).all()
    assert gtf["start"].min() >= 1


def test_index_is_the_one_pyfaidx_would_make(folder, tmp_path):
    copy = tmp_path / "genome.fa"
    copy.write_bytes((folder / "genome.fa").read_bytes())
    pyfaidx.Faidx(str(copy)).close()
    assert (tmp_path / "genome.fa.fai").read_text().split() == (folder / "genome.fa.fai").read_text().split()


def test_motifs_are_read_by_memelite(made, folder):
    motifs = memelite.io.read_meme(str(folder / "motifs.meme"))
    assert list(motifs) == list(made.motifs)
    for name, pwm in motifs.items():
        np.testing.assert_allclose(np.asarray(pwm).T, made.motifs[name], atol=1e-6)


def test_pathways_are_planted_and_random_sets(made, folder):
    sets = {}
    for line in (folder / "pathways.gmt").read_text().splitlines():
        name, _, *genes = line.split("\t")
        sets[name] = genes
    activated = made.truth[made.truth["sign"] > 0].groupby("tf")["gene"].agg(lambda genes: sorted(set(genes)))
    planted = {name: genes for name, genes in sets.items() if name.startswith("SYNTHETIC_TARGETS_")}
    assert planted == {f"SYNTHETIC_TARGETS_{tf}": genes for tf, genes in activated.items() if len(genes) > 1}
    chance = [genes for name, genes in sets.items() if name.startswith("SYNTHETIC_RANDOM_")]
    assert sorted(map(len, chance)) == sorted(map(len, planted.values()))
    assert all(len(set(genes)) == len(genes) for genes in sets.values())
    assert {gene for genes in sets.values() for gene in genes} <= set(made.genes["gene"])


def test_string_files_have_the_columns_and_habits_of_string(made, folder):
    links = pd.read_csv(folder / "string.links.txt.gz", sep=" ")
    assert list(links) == ["protein1", "protein2", *networks.CHANNELS, "combined_score"]
    info = pd.read_csv(folder / "string.info.txt.gz", sep="\t")
    assert list(info) == ["#string_protein_id", "preferred_name", "protein_size", "annotation"]
    aliases = pd.read_csv(folder / "string.aliases.txt.gz", sep="\t")
    assert list(aliases) == ["#string_protein_id", "alias", "source"]

    ids = info["#string_protein_id"]
    assert all(re.fullmatch(r"9999\.ENSP\d{11}", name) for name in ids)
    coding = made.genes[made.genes["biotype"] == "protein_coding"]
    assert list(info["preferred_name"]) == list(coding["gene"])
    assert set(aliases.loc[aliases["source"] == "Ensembl_gene", "alias"]) == set(coding["gene_id"])
    assert set(links["protein1"]) | set(links["protein2"]) <= set(ids)
    forth = links.set_index(["protein1", "protein2"])
    assert forth.index.is_unique
    back = links.rename(columns={"protein1": "protein2", "protein2": "protein1"}).set_index(["protein1", "protein2"])
    pd.testing.assert_frame_equal(forth.sort_index(), back.sort_index())
    assert (links["protein1"] != links["protein2"]).all()
    assert links["combined_score"].between(0, 1_000).all()


def test_strong_protein_links_join_co_regulated_genes(made, folder):
    links = pd.read_csv(folder / "string.links.txt.gz", sep=" ")
    gene = made.genes[made.genes["biotype"] == "protein_coding"].set_index("protein_id")["gene"]
    pairs = zip(links["protein1"].map(gene), links["protein2"].map(gene), strict=True)
    tfs = made.truth[made.truth["sign"] > 0].groupby("gene")["tf"].agg(set).to_dict()
    shared = np.array([bool(tfs.get(a, set()) & tfs.get(b, set())) for a, b in pairs])
    strong = (links["combined_score"] >= 400).to_numpy()
    assert shared[strong].all()
    assert strong.sum() > 50
    assert shared[~strong].mean() < 0.3


def test_combined_score_by_hand():
    # 0.812 and 0.049 (twice) without the prior of 0.041: 0.80396 and 0.00834;
    # together 1 - (1 - 0.80396)(1 - 0.00834)^2 = 0.80722; with the prior 0.80722 * 0.959 + 0.041 = 0.81512.
    # STRING v11 has this row for 9606.ENSP00000255305 and 9606.ENSP00000261600.
    assert networks.combined_score(np.array([[0, 0, 0, 49, 812, 0, 49]])) == 815
    assert networks.combined_score(np.array([[0, 0, 0, 430, 0, 0, 0]])) == 430


def test_same_seed_writes_the_same_bytes(made, folder, tmp_path):
    again = simulate(SMALL, seed=3).write(tmp_path / "again")
    names = sorted(path.name for path in folder.iterdir() if path.name != "multiome.h5mu")
    same, different, failed = filecmp.cmpfiles(folder, again, names, shallow=False)
    assert (different, failed) == ([], [])
    assert same == names


def test_an_earlier_synthetic_multiome_is_replaced(made, tmp_path):
    target = tmp_path / "out"
    made.write(target)
    (target / "stale.txt").write_text("old")
    assert made.write(target) == target
    assert not (target / "stale.txt").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_anything_else_is_left_alone(made, tmp_path):
    (tmp_path / "results.csv").write_text("precious")
    message = "is no synthetic multiome: found results.csv, expected SYNTHETIC.txt. Nothing was written."
    with pytest.raises(DataError, match=message):
        made.write(tmp_path)
    with pytest.raises(DataError, match="found results.csv"):
        made.write(tmp_path / "results.csv")
    assert (tmp_path / "results.csv").read_text() == "precious"
    (tmp_path / "empty").mkdir()
    assert (made.write(tmp_path / "empty") / "truth.parquet").is_file()


def test_an_interrupted_write_leaves_the_old_files(made, tmp_path, monkeypatch):
    target = made.write(tmp_path / "out")
    before = {path.name: path.read_bytes() for path in target.iterdir()}

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(writing, "_write_fasta", interrupted)
    with pytest.raises(KeyboardInterrupt):
        made.write(target)
    assert {path.name: path.read_bytes() for path in target.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_lines_of_fasta_when_the_length_is_no_multiple_of_sixty(folder):
    lines = (folder / "genome.fa").read_text().splitlines()
    assert {len(line) for line in lines if not line.startswith(">")} == {
        60,
        1_300_000 % 60,
        1_000_000 % 60,
        700_000 % 60,
    }


def test_regulons_know_a_part_of_the_truth_and_as_much_that_is_wrong(made, folder):
    listed = pd.read_csv(folder / "regulons.csv")
    assert list(listed) == ["tf", "confidence", "target", "mor"]
    assert not listed.duplicated(["tf", "target"]).any()
    truth = made.truth.sort_values("strength", ascending=False).drop_duplicates(["tf", "gene"])
    joined = listed.merge(truth, left_on=["tf", "target"], right_on=["tf", "gene"], how="left")
    assert joined["gene"].notna().equals(listed["confidence"] == "A")
    known = joined[joined["gene"].notna()]
    assert (known["mor"] == known["sign"]).all()
    assert 0.4 < len(known) / len(truth) < 0.9
    assert 0 < (listed["confidence"] == "D").sum() <= len(known)
    assert set(listed["tf"]) <= set(made.motifs)
