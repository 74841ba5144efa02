import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heteromics import _config
from heteromics.errors import RecipeError, StoreError
from heteromics.priors import PriorStore
from heteromics.priors.splits import (
    SplitConfig,
    assign_folds,
    build_splits,
    chromosome_blocks,
    chromosome_codes,
    held_out,
    same_chromosome,
)
from tests.priors.prior_files import context_with, fits, tally

CODES = st.lists(st.integers(0, 5), max_size=20).map(lambda codes: np.array(codes, np.int64))


@given(gene=CODES, peak=CODES)
@settings(max_examples=150, deadline=None)
def test_codes_say_what_the_dense_mask_says(gene, peak):
    mask = np.array([[g == p for p in peak.tolist()] for g in gene.tolist()], bool).reshape(gene.size, peak.size)
    rows, columns = (side.ravel() for side in np.indices(mask.shape))
    np.testing.assert_array_equal(same_chromosome(gene, peak, rows, columns), mask.ravel())
    blocks = np.zeros_like(mask)
    for block in chromosome_blocks(gene, peak):
        assert not blocks[np.ix_(block.gene, block.peak)].any()
        blocks[np.ix_(block.gene, block.peak)] = True
        assert set(gene[block.gene]) == set(peak[block.peak]) == {block.code}
    np.testing.assert_array_equal(blocks, mask)


@given(weight=st.lists(st.integers(0, 60), min_size=1, max_size=7), folds=st.integers(2, 3))
@settings(max_examples=80, deadline=None)
def test_folds_are_within_the_bound_of_the_best(weight, folds):
    fold = assign_folds(weight, folds)
    weight = np.array(weight)
    assert ((fold == -1) == (weight == 0)).all()
    heaviest = max(weight[fold == number].sum() for number in range(folds))
    best = min(
        max(weight[np.array(way) == number].sum() for number in range(folds))
        for way in itertools.product(range(folds), repeat=weight.size)
    )
    assert heaviest <= best * (4 / 3 - 1 / (3 * folds)) + 1e-9
    assert heaviest <= weight.sum() / folds + weight.max() * (folds - 1) / folds + 1e-9


def context_of(sizes=None):
    context = context_with({}, sizes or {"chr1": 9_000, "chr2": 5_000, "chr10": 5_000, "chrM": 100})
    for number, chrom in enumerate(["chr1", "chr1", "chr2", "chr10", "chr10", "chr10"]):
        context.connection.execute("INSERT INTO peak VALUES (?, ?, ?, ?)", [f"p{number}", chrom, number, number + 1])
    return context


def parts_of(built, split):
    rows = built.tables["chromosome_split"].to_pylist()
    return {row["chrom"]: row["part"] for row in rows if row["split"] == split}


def test_named_chromosomes_are_held_out():
    built = build_splits(context_of(), SplitConfig(hold_out=("chr10",)))
    assert fits(built)
    assert parts_of(built, "hold_out") == {"chr1": "train", "chr2": "train", "chr10": "test", "chrM": "train"}


@pytest.mark.parametrize(
    ("balance", "folds"),
    [
        ("peak", [{"chr10"}, {"chr1", "chr2"}]),
        ("gene", [{"chr2"}, {"chr1"}]),
        ("size", [{"chr1", "chrM"}, {"chr2", "chr10"}]),
    ],
)
def test_every_chromosome_that_weighs_is_tested_on_once(balance, folds):
    built = build_splits(context_of(), SplitConfig(folds=2, balance=balance))
    assert built.tables["chromosome_split"].num_rows == 8
    for number, expected in enumerate(folds):
        assert {chrom for chrom, part in parts_of(built, f"fold_{number}").items() if part == "test"} == expected
    unused = {match.name: (match.outcome, match.detail) for match in built.matches["chromosome_split"]}
    if balance == "peak":
        assert unused == {"chrM": ("empty", "no peak on it; to train on in every fold")}
        assert tally(built, "chromosome_split") == {"matched": 3, "empty": 1}


def test_bad_input_is_named():
    with pytest.raises(RecipeError, match=r"has no chromosome 'chr20'. Did you mean 'chr2'"):
        build_splits(context_of(), SplitConfig(hold_out=("chr1", "chr20")))
    with pytest.raises(RecipeError, match="all 1 chromosomes are held out"):
        build_splits(context_with({}, {"chr1": 9_000}), SplitConfig(hold_out=("chr1",)))
    with pytest.raises(RecipeError, match=r"found 3, but only 2 of 4 chromosomes have any gene. Fix: 2 folds"):
        build_splits(context_of(), SplitConfig(folds=3, balance="gene"))
    with pytest.raises(RecipeError, match=r"found gene_peak, but the recipe does not build table gene_peak"):
        build_splits(context_of(), SplitConfig(folds=2))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({}, "found neither hold_out nor folds"),
        ({"folds": 1}, "folds: found 1, expected 2 or more"),
        ({"folds": 2, "balance": "links"}, "found 'links', expected one of 'gene_peak'"),
    ],
)
def test_recipe_keys_are_checked(keys, message):
    with pytest.raises(RecipeError, match=message):
        _config.build(SplitConfig, keys, "attributes.splits")


def test_a_store_gives_codes_and_parts_in_the_order_of_its_tables(recipe):
    recipe.write_text(recipe.read_text() + "attributes:\n  splits: {hold_out: [chr2], folds: 2, balance: peak}\n")
    with PriorStore.build(recipe, recipe.with_name("s.duckdb"), progress=False) as store:
        gene, peak = chromosome_codes(store)
        code = {"chr1": 0, "chr2": 1}
        assert gene.tolist() == [code[chrom] for chrom in store.frame("gene")["chrom"]]
        assert peak.tolist() == [code[chrom] for chrom in store.frame("peak")["chrom"]]
        gene_held, peak_held = held_out(store)
        assert (gene_held == (gene == 1)).all()
        assert (peak_held == (peak == 1)).all()
        folds = [held_out(store, f"fold_{number}") for number in range(2)]
        assert (folds[0][0] ^ folds[1][0]).all()
        assert (folds[0][1] ^ folds[1][1]).all()
        links = store.frame("gene_peak")
        row = {name: number for number, name in enumerate(store.frame("gene")["gene_id"])}
        column = {name: number for number, name in enumerate(store.frame("peak")["peak_id"])}
        assert same_chromosome(gene, peak, links["gene_id"].map(row), links["peak_id"].map(column)).all()
        with pytest.raises(StoreError, match=r"has no split 'fold_9'. Did you mean 'fold_(.|\n)*Splits: fold_0"):
            held_out(store, "fold_9")
    assert {table.table: table.rows for table in PriorStore.plan(recipe).tables}["chromosome_split"] == 6


def test_links_are_shared_out_among_the_folds(recipe):
    recipe.write_text(recipe.read_text() + "attributes:\n  splits: {folds: 2}\n")
    with PriorStore.build(recipe, recipe.with_name("s.duckdb"), progress=False) as store:
        held, _ = held_out(store, "fold_0")
        gene = store.frame("gene")["gene_id"][held]
        assert 0 < store.frame("gene_peak")["gene_id"].isin(gene).sum() < len(store.frame("gene_peak"))
