"""Names of real data: genes through alias files, antibodies of four panels; what joins, what does not, and why."""

import csv
import gzip

import duckdb
import pytest

from heteromics.priors import PriorStore
from heteromics.priors.antibodies import AntibodyConfig, build_antibodies
from heteromics.priors.identifiers import join_store_genes, translate
from heteromics.priors.schemas import SCHEMAS
from heteromics.priors.tables import BuildContext, Source

pytestmark = pytest.mark.realdata

HUMAN = """
recipe: 1
assembly: {{name: GRCh38, sizes: {mirror}/prior_genome_tables/hg38.seqinfo.tsv, chrom_style: ucsc}}
sources:
  gtf: {mirror}/prior_gtf_grch38_chr1/ensembl_GRCh38_chr1.gtf.gz
  genes: {mirror}/multiome_pbmc_tiny_hg38/rna.h5ad
  aliases_gencode: {mirror}/prior_tss_gene_tables/GENCODEv44_Gene_id2name.csv.gz
  string_aliases: {mirror}/prior_string_v11_sample/STRING11_9606_aliases.txt.gz
nodes: {{gene: {{chrom_style: ucsc, transcripts: false, parts: false}}}}
"""


@pytest.fixture(scope="module")
def chr1(mirror, tmp_path_factory):
    """Genes of chromosome 1 as of 2014, with the names GENCODE v44 gives their ids nine years later."""
    folder = tmp_path_factory.mktemp("names")
    (folder / "recipe.yaml").write_text(HUMAN.format(mirror=mirror))
    with PriorStore.build(folder / "recipe.yaml", folder / "priors.duckdb", progress=False) as store:
        yield store


def of_data(store):
    report = store.match_report("gene")
    return report[report["source"] == "rna.h5ad"].set_index("name")


def test_genes_that_were_renamed_join_through_the_alias_table(chr1):
    summary = chr1.match_summary().query("source == 'rna.h5ad'").set_index("outcome")["n"].to_dict()
    assert summary == {"matched": 1_054, "alias": 159, "absent": 35_384, "ambiguous": 4}  # of 36,601; 1,213 on chr1
    report = of_data(chr1)
    assert report.loc["CCN1", "detail"] == "joined ENSG00000142871 (CYR61), symbol"
    assert report.loc["INTS11", "detail"] == "joined ENSG00000127054 (CPSF3L), symbol"
    assert report.loc["C1QTNF12", "detail"] == "joined ENSG00000184163 (FAM132A), symbol"
    joined = report[report["outcome"] == "alias"]
    assert joined["detail"].str.fullmatch(r"joined ENSG\d{11} \(\S+\), symbol").all()


MOUSE = """
recipe: 1
assembly: {{name: GRCm38, sizes: {mirror}/prior_genome_tables/mm10.seqinfo.tsv, chrom_style: ucsc}}
sources:
  gtf: {mirror}/prior_gtf_mm10_gencode_vM25/gencode.vM25.genes_only.gtf.gz
  genes: {mirror}/multiome_snareseq_mop/rna.h5ad
  aliases_mgi: markers.rpt
nodes: {{gene: {{chrom_style: ucsc, transcripts: false, parts: false}}}}
"""
# Current symbols and synonyms of MGI, for the names of the data that vM25 gives otherwise.
RENAMED = {
    "Prkn": "Park2", "Tafa1": "Fam19a1", "Tafa2": "Fam19a2", "Tafa5": "Fam19a5", "Tent5a": "Fam46a",
    "Dipk1c": "Fam69c", "Marchf1": "March1|2900024D24Rik", "Marchf3": "March3", "Septin4": "Sept4", "Septin7": "Sept7",
    "H2bc4": "Hist1h2bc", "Plaat3": "Pla2g16", "Mtss2": "Mtss1l", "Otulinl": "Fam105a",
}  # fmt: skip


def test_mouse_genes_that_were_renamed_join_by_the_synonyms_of_mgi(mirror, tmp_path):
    header = "MGI Accession ID\tMarker Symbol\tStatus\tMarker Synonyms (pipe-separated)\n"
    lines = [f"MGI:{row}\t{symbol}\tO\t{names}\n" for row, (symbol, names) in enumerate(RENAMED.items())]
    (tmp_path / "markers.rpt").write_text(header + "".join(lines))
    (tmp_path / "recipe.yaml").write_text(MOUSE.format(mirror=mirror))
    with PriorStore.build(tmp_path / "recipe.yaml", tmp_path / "priors.duckdb", progress=False) as store:
        summary = store.match_summary().query("source == 'rna.h5ad'").set_index("outcome")["n"].to_dict()
        assert summary == {"matched": 1_656, "alias": 14, "absent": 7}
        report = of_data(store)
        assert report.loc["Park2", "detail"] == "joined ENSMUSG00000023826 (Prkn), alias"
        # Clones, predicted genes and two symbols whose current ones vM25 does not have (St5, Palm2).
        assert sorted(report.index[report["outcome"] == "absent"]) == [
            "6430573F11Rik", "A430105I19Rik", "AF529169", "BC030499", "Gm14005", "Palm2", "St5",
        ]  # fmt: skip


def test_every_renamed_gene_has_the_id_that_gencode_gives_its_new_name(chr1, mirror):
    with gzip.open(mirror / "prior_tss_gene_tables" / "GENCODEv44_Gene_id2name.csv.gz", "rt") as file:
        ids = {}
        for gene_id, symbol in csv.reader(file):
            ids.setdefault(symbol, set()).add(gene_id)
    report = of_data(chr1)
    joined = report[report["outcome"] == "alias"]["detail"].str.extract(r"joined (ENSG\d+)")[0]
    assert all(gene_id in ids[name] for name, gene_id in joined.items())


def test_names_that_do_not_join_are_of_other_chromosomes_or_have_two_ids(chr1):
    report = of_data(chr1)
    # TARDBP and three others have two genes of one name in the annotation of 2014: none is taken.
    assert report.index[report["outcome"] == "ambiguous"].tolist() == ["TARDBP", "PRAMEF11", "HNRNPCL2", "KCNA3"]
    absent = report[report["outcome"] == "absent"]["detail"]
    known = absent.str.contains("which is not in the annotation")
    assert known.sum() > 21_000  # GENCODE v44 knows the gene: it lies on another chromosome, or is newer than 2014
    # The rest are names that v44 has dropped: clones that got a symbol since, and symbols that were replaced.
    assert set(absent[~known]) == {"not in the annotation"}
    assert absent.index.isin(["CD4", "GAPDH", "ACTB"]).sum() == 3
    assert known[["CD4", "GAPDH", "ACTB"]].all()


def test_a_store_translates_between_symbols_ids_and_proteins(chr1):
    joined = join_store_genes(chr1, ["CYR61", "CCN1", "ccn1", "ENSG00000142871.17"])
    assert joined.gene_id == ["ENSG00000142871"] * 4
    assert joined.outcome == ["matched", "alias", "case_folded", "version_stripped"]
    proteins = chr1.frame("gene_alias").query("kind == 'ensembl_protein'")
    assert len(proteins) == 11  # ten thousand random lines of STRING's aliases hold 90 gene ids, 11 of them on chr1
    back = translate(chr1, proteins["alias"].tolist(), to="gene_id")
    assert back["gene_id"].tolist() == proteins["gene_id"].tolist()


@pytest.fixture(scope="module")
def panels(mirror):
    """Return a function that joins a panel to all genes of GENCODE v44; that list has no coordinates."""
    connection = duckdb.connect()
    for name in ("chromosome", "gene"):
        connection.execute(SCHEMAS[name].create_sql())
    path = mirror / "prior_tss_gene_tables" / "GENCODEv44_Gene_id2name.csv.gz"
    connection.execute(
        "INSERT INTO gene SELECT column0, column1, 'chr1', 1, 2, '+', 1, '' FROM read_csv(?, header = false)",
        [str(path)],
    )

    def join(name):
        source = Source(mirror / name, "0" * 64, "", "", name.split("/")[-1])
        context = BuildContext(
            connection, "GRCh38", "ucsc", {"chr1": 9}, lambda _name: source, frozenset({"antibodies"})
        )
        built = build_antibodies(context, AntibodyConfig())
        edges = {}
        symbols = dict(connection.execute("SELECT gene_id, symbol FROM gene").fetchall())
        for row in built.tables["gene_protein"].to_pylist():
            edges.setdefault(row["protein_id"], set()).add(symbols[row["gene_id"]])
        return built, edges

    return join


# Genes of the pseudoautosomal regions: GENCODE v44 gives their copy on Y an id of its own, and the list no place, by
# which the two would be known for one. KIR genes that only some people have lie on alternate loci, not in the list.
PSEUDOAUTOSOMAL = {"CD123", "cd123", "CD99", "cd99", "TSLPR", "tslpr"}


@pytest.mark.parametrize(
    ("name", "n", "unjoined"),
    [
        pytest.param("cite_bmmc_neurips2021/common.output_mod2.h5ad", 134, {"CD123"}, id="BMMC"),
        pytest.param("cite_pbmc5k/pbmc_5k_protein_v3.h5ad", 29, set(), id="PBMC 5k"),
        pytest.param(
            "cite_mosaic_pbmc_midas/quickstart_pbmc_mosaic.h5mu", 224,
            {"cd123", "cd99", "tslpr", "cd158f", "folate", "cadherin"}, id="mosaic",
        ),
        pytest.param("protein_cite_asap_pbmc_ctrl/cite_protein.h5ad", 216, {"CD123", "CD99", "TSLPR"}, id="CITE"),
    ],
)  # fmt: skip
def test_antibodies_of_real_panels_join_but_for_few(panels, name, n, unjoined):
    built, edges = panels(name)
    proteins = built.tables["protein"]["protein_id"].to_pylist()
    assert len(proteins) == n
    assert set(proteins) - set(edges) == unjoined
    reports = {match.name: match for match in built.matches["protein"]}
    for protein in unjoined & PSEUDOAUTOSOMAL:
        assert reports[protein].outcome == "ambiguous"
        assert ": fits ENSG" in reports[protein].detail
    for protein in unjoined - PSEUDOAUTOSOMAL:
        # KIR2DL5 (cd158f) is on alternate loci; "Folate Receptor" and "Cadherin 11" were cut at the blank.
        assert reports[protein].outcome == "absent"
    lacking = {match.detail.split(":")[0] for match in built.matches["gene_protein"]}
    assert lacking <= {"KIR2DS1", "KIR2DS3", "KIR2DS5", "KIR2DL2"}
    assert sum(count.n for count in built.counts["protein"]) == n


def test_the_same_antibodies_written_otherwise_have_the_same_genes(panels):
    """The mosaic's panel is the CITE panel in lower case with other separators, and a few antibodies more."""
    _, cite = panels("protein_cite_asap_pbmc_ctrl/cite_protein.h5ad")
    _, mosaic = panels("cite_mosaic_pbmc_midas/quickstart_pbmc_mosaic.h5mu")

    def plain(name):
        return name.split("(")[0].casefold().replace("_", ".").replace("-", ".").replace("/", ".").replace(" ", ".")

    renamed = {plain(name): genes for name, genes in cite.items()}
    shared = renamed.keys() & mosaic.keys()
    assert len(shared) > 190
    assert [name for name in shared if renamed[name] != mosaic[name]] == []


# symbol_mapping.csv has other genes for these, and we hold to ours:
DISAGREEMENTS = {
    "CD25": "ISG20 is an old alias of another gene; the antigen is IL2RA",
    "IgM": "CD40LG has the alias IGM (hyper-IgM syndrome); the antigen is IGHM",
    "TCR": "TRBV20OR9-2 is an orphon; the antibody binds the constant chains",
    "CD158b": "KIR2DS2 is CD158j, to which the antibody also binds; KIR2DL2 is on an alternate locus",
}
# symbol_mapping.csv leaves these as they are, without a gene:
WITHOUT_GENE_THERE = {
    "CD3", "HLA-A-B-C", "CD45RA", "CD45RO", "HLA-DR", "integrinB7", "IgD", "CD158", "TCRVa7.2", "TCRVd2",
}  # fmt: skip


def test_genes_of_the_bmmc_panel_agree_with_a_mapping_made_by_others(panels, mirror):
    theirs = {}
    with (mirror / "prior_string_v11.5_adt_proteins" / "symbol_mapping.csv").open() as file:
        for row in csv.DictReader(file):
            theirs.setdefault(row["protein"], set()).add(row["symbol"])
    built, ours = panels("cite_bmmc_neurips2021/common.output_mod2.h5ad")
    proteins = built.tables["protein"]["protein_id"].to_pylist()
    differ = {name for name in proteins if ours.get(name) != theirs[name.upper()]}
    assert differ == {*DISAGREEMENTS, *WITHOUT_GENE_THERE, "CD123"}  # CD123: pseudoautosomal, see above
    assert all(theirs[name.upper()] == {name.upper()} for name in WITHOUT_GENE_THERE)
    assert len(proteins) - len(differ) == 119
    # It also lists six isotype controls, which are not among the 134 and would be named as such here.
    rest = theirs.keys() - {name.upper() for name in proteins}
    assert rest == {
        f"{species}-IGG{kind}"
        for species, kind in (
            ("MOUSE", "1"),
            ("MOUSE", "2A"),
            ("MOUSE", "2B"),
            ("RAT", "1"),
            ("RAT", "2A"),
            ("RAT", "2B"),
        )
    }
