import pytest

from heteromics.priors._annotation_size import annotation_size
from tests.priors.test_genepred import HEADER, extended, plain
from tests.priors.test_gff3 import ENSEMBL, NCBI


def gtf(*features, key='transcript_id "T{}"'):
    line = 'chr1\tx\t{}\t1\t9\t.\t+\t.\tgene_id "G{}"; {};'
    return [line.format(feature, n, key.format(n)) for n, feature in enumerate(features)]


@pytest.mark.parametrize(
    ("lines", "genes", "transcripts", "exons"),
    [
        pytest.param(["##c", *gtf("gene", "gene", "transcript", *["exon"] * 40, "CDS")], 2, 1, 40, id="GTF"),
        pytest.param(gtf(*["exon"] * 20), 20, 20, 20, id="GTF of exons alone"),
        pytest.param(gtf("gene", "gene", key="level {}"), 2, 0, 0, id="GTF of genes alone"),
        pytest.param(ENSEMBL.splitlines(), 2, 2, 2, id="Ensembl GFF3"),
        pytest.param(NCBI.splitlines(), 6, 4, 5, id="NCBI GFF3"),
        pytest.param([HEADER.rstrip("\n"), *[extended().rstrip("\n")] * 3], 1, 3, 6, id="refGene with header"),
        pytest.param([plain(name=f"NM_{n}") for n in range(4)], 4, 4, 8, id="genePred"),
        pytest.param(["# nothing"], 0, 0, 0, id="comments alone"),
    ],
)
def test_genes_transcripts_and_exons_are_counted_in_every_format(lines, genes, transcripts, exons):
    size = annotation_size(lines, factor=10.0)
    assert size[:2] == (10 * genes, 10 * transcripts)
    assert size.parts == round(6.5 * exons)
