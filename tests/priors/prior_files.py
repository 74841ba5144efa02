"""A toy build context and small files for the table builders' tests."""

import gzip

import duckdb

from heteromics.priors.schemas import SCHEMAS
from heteromics.priors.tables import BuildContext, Source

GENES = (
    ("ENSG01", "TP53", "chr1", 1_000, 5_000, "+", 1_000),
    ("ENSG02", "Gapdh", "chr1", 9_000, 9_500, "-", 9_499),
    ("ENSG03", "JUN", "chr2", 100, 900, "+", 100),
    ("ENSG04", "Y_RNA", "chr2", 2_000, 2_100, "+", 2_000),
    ("ENSG05", "Y_RNA", "chr2", 3_000, 3_100, "+", 3_000),
)


def written(path, text):
    """Write text, gzipped where the name says so."""
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def context_with(files, sizes=None):
    """Return a build context over table gene, a few peaks and the given files."""
    sizes = sizes or {"chr1": 10_000, "chr2": 10_000}
    connection = duckdb.connect()
    for name in ("chromosome", "gene", "peak"):
        connection.execute(SCHEMAS[name].create_sql())
    for code, (chrom, size) in enumerate(sizes.items()):
        connection.execute("INSERT INTO chromosome VALUES (?, ?, ?)", [chrom, code, size])
    for gene_id, symbol, *place, tss in GENES:
        connection.execute("INSERT INTO gene VALUES (?, ?, ?, ?, ?, ?, ?, '')", [gene_id, symbol, *place, tss])

    def resolve(name):
        return Source(files[name], "0" * 64, "", "", files[name].name)

    return BuildContext(connection, "toy", "ucsc", sizes, resolve, frozenset(files))


def fits(built):
    """Every table has the columns of its schema and goes into the store."""
    with duckdb.connect() as connection:
        for name, rows in built.tables.items():
            assert rows.column_names == [column.name for column in SCHEMAS[name].columns]
            connection.execute(SCHEMAS[name].create_sql())
            connection.register("rows", rows)
            connection.execute(f"INSERT INTO {name} SELECT * FROM rows")
    return True


def tally(built, table):
    return {count.outcome: count.n for count in built.counts[table] if count.n}
