"""Build priors for adult mouse cortex (SNARE-seq, Chen et al. 2019) on mm10, and ask them about one gene.

    HETEROMICS_DATA=MIRROR python priors/build_mouse_cortex.py [mouse_cortex.duckdb [source.gtf=FILE ...]]

Gene lines of GENCODE vM25, and the peaks and genes the data use, are items of data_manifest.yaml that lie in a local
mirror. Without one, name files of your own by further assignments.
"""

from __future__ import annotations

import sys

from heteromics.priors import PriorStore

SETS = (
    "source.gtf=manifest:prior_gtf_mm10_gencode_vM25/gencode.vM25.genes_only.gtf.gz",
    "source.peaks=manifest:multiome_snareseq_mop/atac.h5ad",
    "source.genes=manifest:multiome_snareseq_mop/rna.h5ad",
    "nodes.region=false",
    "edges.peak_region=false",
    "edges.pathways=false",
    "edges.interactions=false",
)
GENE = "Rorb"  # marks layer 4 neurons
NEAREST = """
    SELECT peak_id, signed_offset, round(weight, 3) AS weight, in_promoter
    FROM gene_peak JOIN gene USING (gene_id) WHERE symbol = ? ORDER BY distance, peak_id LIMIT 5
"""


def main(db: str = "mouse_cortex.duckdb", *sets: str) -> None:
    """Build the store, then print what joined, what did not, and which peaks lie nearest to one gene."""
    with PriorStore.build("mouse_grcm38", db, sets=[*SETS, *sets], force=True) as store:
        print(store.summary()[["table", "rows", "bytes"]].to_string(index=False))
        print(store.match_summary().to_string(index=False))
        absent = store.match_report("gene", outcome="absent")["name"]
        print(f"\n{len(absent)} genes of the data are not in the annotation: {', '.join(absent)}")
        peaks = store.neighbors(GENE, edges="gene_peak")
        print(f"\n{len(peaks)} peaks within reach of {GENE}; the nearest:")
        print(store.connection.execute(NEAREST, [GENE]).df().to_string(index=False))


if __name__ == "__main__":
    main(*sys.argv[1:])
