import dataclasses
import json

import pytest
import yaml

from heteromics.errors import RecipeError
from heteromics.priors import build_store, load_recipe, make_plan
from heteromics.priors.known_sources import KNOWN_SOURCES, describe
from heteromics.priors.registry import BUILDERS
from heteromics.priors.schemas import SCHEMAS
from heteromics.priors.sources import Sources


@pytest.mark.parametrize("name", ["demo", "human_grch38", "mouse_grcm38"])
def test_shipped_recipes_hold_together(name):
    recipe = load_recipe(name)
    assert {builder.name for builder, _ in recipe.steps} >= {
        "gene", "peak", "motif", "gene_peak", "pathways", "interactions", "sequence", "annotation",
    }  # fmt: skip
    assert all(describe(source) or source == "sizes" for source in recipe.needed)
    from heteromics.data.manifest import load_manifest

    manifest = load_manifest()
    for location in recipe.sources.values():
        if location.kind == "manifest":
            item, _, file = location.text.partition("/")
            assert manifest[item][file].name == file


def test_the_registry_fits_the_schemas():
    for builder in BUILDERS:
        assert set(builder.makes) | set(builder.uses) <= set(SCHEMAS)
        assert set(builder.may_read) <= set(KNOWN_SOURCES)


def test_what_a_builder_looks_at_is_made_before_it():
    made = {"chromosome"}
    later = {table for builder in BUILDERS for table in builder.makes}
    for builder in BUILDERS:
        assert set(builder.uses) <= made, builder.key
        made.update(builder.makes)
    assert made == later | {"chromosome"}


@pytest.mark.parametrize(
    ("assignment", "said"),
    [
        ("edges.gene_peak.within=5", "tiny.yaml.edges.gene_peak: unknown key 'within'. Did you mean 'within_bp'?"),
        ("edges.gene_peek.within_bp=5", "tiny.yaml.edges: unknown key 'gene_peek'. Did you mean 'gene_peak'?"),
        ("nodes.genes.strip_version=true", "unknown key 'genes'. Did you mean 'gene'?"),
        ("source.gft=x", "tiny.yaml.sources: unknown key 'gft'. Did you mean 'gtf'?"),
        ("assembley.name=x", "unknown key 'assembley'. Did you mean 'assembly'?"),
        ("assembly.chrom_style=refseq", "found 'refseq', expected one of 'ucsc', 'ensembl', 'ncbi'"),
        ("recipe=2", "tiny.yaml.recipe: found 2, expected one of 1"),
        ("nodes.gene.strip_version=maybe", "nodes.gene.strip_version: found 'maybe' (str), expected bool"),
        ("nodes.gene=false", "tiny.yaml.edges.gene_peak needs table gene, which the recipe does not build"),
        ("nodes.gene=false", "Fix: add `nodes: {gene: {}}`."),
        (
            "edges.peak_region={}",
            "needs table region, which the recipe does not build. Fix: add `nodes: {region: {}}`.",
        ),
        ("edges.motif_peak={}", "needs table motif, which the recipe does not build. Fix: add `nodes: {motif: {}}`."),
        ("source.region_ccre=x", "tiny.yaml.sources: unknown key 'region_ccre'. Did you mean 'regions_ccre'?"),
        ("source.regulon_dorothea=x", "unknown key 'regulon_dorothea'. Did you mean 'regulons_dorothea'?"),
        ("source.regions_=x", "unknown key 'regions_'."),
        ("source.pairs=x", "unknown key 'pairs'. Did you mean 'pairs_NAME'?"),
        ("nodes.gene.biotypes=[a, b", "--set nodes.gene.biotypes=[a, b: the value is not valid YAML"),
        ("nodes.gene.strip_version.x=1", "'strip_version' is a value, not a group of keys"),
        ("sources.sizes", "found no '='"),
    ],
)
def test_a_recipe_that_does_not_hold_together_says_where(recipe, assignment, said):
    with pytest.raises(RecipeError) as error:
        load_recipe(recipe, [assignment])
    assert said in str(error.value)


def test_sizes_stand_below_assembly(recipe):
    recipe.write_text(recipe.read_text().replace("{gtf:", "{sizes: x, gtf:"))
    with pytest.raises(RecipeError, match="chromosome sizes stand below assembly"):
        load_recipe(recipe)


def test_a_recipe_without_tables_is_an_error(recipe):
    recipe.write_text("recipe: 1\nassembly: {name: x, sizes: y}\n")
    with pytest.raises(RecipeError, match="names no table"):
        load_recipe(recipe)


def test_true_and_null_mean_defaults_and_false_leaves_out(recipe):
    recipe.write_text(
        "recipe: 1\nassembly: {name: x, sizes: y}\nnodes: {gene: true, peak: null}\nedges: {gene_peak: false}\n"
    )
    implied = [builder for builder in BUILDERS if builder.by_default and {"gene", "peak"}.issuperset(builder.needs)]
    names = [builder.name for builder, _ in load_recipe(recipe).steps]
    assert names == [builder.name for builder in BUILDERS if builder in implied or builder.name in {"gene", "peak"}]
    assert {"identifiers", "assembly_check", "sequence"} <= set(names)
    steps = load_recipe(recipe, [f"{builder.key}=false" for builder in implied]).steps
    assert [builder.name for builder, _ in steps] == ["gene", "peak"]


def test_names_are_looked_up_beside_the_recipe_in_the_folder_or_in_the_working_directory(recipe, tmp_path, monkeypatch):
    other = tmp_path / "other"
    other.mkdir()
    monkeypatch.chdir(other)
    where = load_recipe(recipe).sources["gtf"]
    assert (where.kind, where.text, where.label) == ("path", str(recipe.parent / "genes.gtf"), "genes.gtf")
    assert load_recipe(recipe, ["source.gtf=mine.gtf"]).sources["gtf"].text == str(other / "mine.gtf")
    assert load_recipe(recipe, ["source.sizes=s"]).sources["sizes"].text == str(other / "s")
    assert load_recipe(recipe, ["source.folder=sub"]).sources["gtf"].text == str(other / "sub" / "genes.gtf")
    assert load_recipe(recipe, ["source.gtf=manifest:item/a.gtf"]).sources["gtf"].label == "manifest:item/a.gtf"
    assert "gmt" not in load_recipe(recipe, ["source.gmt=null"]).sources


def test_every_key_of_every_builder_can_be_set(recipe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    families = [name.replace("*", "mine") for name in KNOWN_SOURCES]
    checked = load_recipe(recipe, [f"source.{name}=file" for name in families])
    assert {checked.sources[name].text for name in families} == {str(tmp_path / "file")}
    needed = ["nodes.region={}", "nodes.motif={}", "edges.antibodies={}"]
    must = ["nodes.mygene.taxon=9606", "attributes.splits.folds=2"]
    for one in BUILDERS:
        plain = (key for key in dataclasses.fields(one.config) if isinstance(key.default, str | int | float))
        sets = [f"{one.key}={{}}", *(f"{one.key}.{key.name}={json.dumps(key.default)}" for key in plain)]
        checked = load_recipe(recipe, [*needed, *sets, *(key for key in must if key.startswith(f"{one.key}."))])
        assert one in [builder for builder, _ in checked.steps]


def test_sources_of_a_family_are_used_by_those_who_read_it(recipe):
    sets = ["nodes.region={}", "source.regions_ccre=a.bed", "source.regions_other=b.bed", "source.pairs_x=c.tsv"]
    used = load_recipe(recipe, sets).used
    assert {"regions_ccre", "regions_other"} <= set(used)
    assert "pairs_x" not in used


def test_all_missing_sources_are_named_at_once():
    recipe = load_recipe("demo")
    with pytest.raises(RecipeError) as error:
        Sources(recipe.sources).check(recipe.used)
    message = str(error.value)
    assert message.startswith(f"{len(recipe.used)} of {len(recipe.used)} sources cannot be had:")
    assert f"source gtf ({describe('gtf')}) is not given yet: --set source.folder=DIR" in message
    assert "source sizes (chromosome sizes, two columns)" in message


def test_a_file_that_is_not_there_is_named(recipe):
    sources = Sources(load_recipe(recipe, ["source.gmt=null", "source.genes=/no/where.txt"]).sources)
    with pytest.raises(RecipeError) as error:
        sources.check(["gtf", "gmt", "genes"])
    assert "2 of 3 sources cannot be had" in str(error.value)
    assert "source gmt (gene sets, GMT or MSigDB JSON) is not given. Fix: --set source.gmt=FILE" in str(error.value)
    assert "source genes: no file /no/where.txt. Fix: --set source.genes=FILE" in str(error.value)


def test_the_hash_follows_what_is_built_not_where_files_lie(recipe, tmp_path):
    plain = load_recipe(recipe).hash
    assert len(plain) == 64
    assert load_recipe(recipe, ["nodes.peak.on_unmatched=error"]).hash == plain  # a default, spelled out
    assert load_recipe(recipe, [f"source.folder={tmp_path / 'elsewhere'}"]).hash == plain
    assert load_recipe(recipe, ["edges.gene_peak.within_bp=501"]).hash != plain
    assert load_recipe(recipe, ["source.gtf=other.gtf"]).hash != plain


def test_the_resolved_recipe_can_be_read_again(recipe):
    first = load_recipe(recipe)
    again = recipe.with_name("again.yaml")
    again.write_text(first.as_yaml())
    assert load_recipe(again).hash == first.hash
    assert yaml.safe_load(first.as_yaml()) == first.as_dict()


def test_the_resolved_recipe_says_what_was_switched_off(recipe, tmp_path):
    fewer = load_recipe(recipe, ["nodes.assembly_check=false", "attributes.sequence=false"])
    assert fewer.as_dict()["nodes"]["assembly_check"] is False
    again = tmp_path / "again.yaml"
    again.write_text(fewer.as_yaml())
    assert [builder.key for builder, _ in load_recipe(again).steps] == [builder.key for builder, _ in fewer.steps]
    assert load_recipe(again).hash == fewer.hash != load_recipe(recipe).hash


def test_a_plan_says_what_is_at_hand_and_how_much_it_makes(recipe):
    plan = make_plan(recipe, sets=["source.gmt=null"])
    assert [(source.name, source.where) for source in plan.sources] == [
        ("sizes", "file"), ("gtf", "file"), ("peaks", "file"), ("gmt", "missing"),
    ]  # fmt: skip
    assert [source.fix for source in plan.missing] == ["--set source.gmt=FILE"]
    rows = {row["table"]: row for row in plan.table_rows()}
    assert rows["gene"]["rows"] == 4
    assert rows["peak"]["rows"] == 4
    assert rows["gene"]["sources"] == "gtf"
    assert rows["gene_peak"]["sources"] == "table gene, table peak"
    assert rows["gene_peak"]["rows"] == 2  # 4 genes, 4 peaks, 1 kb of 15 kb, clustered
    assert rows["pathway"]["rows"] is None
    assert json.loads(json.dumps(plan.as_dict()))["ready"] is False
    assert make_plan(recipe).as_dict()["ready"] is True
    assert {row["where"] for row in make_plan(recipe).source_rows()} == {"file"}


def test_a_plan_adds_up_and_knows_how_long_arrays_are(recipe):
    sets = ["attributes.kmers.k=2", "attributes.bases.width_bp=100", "attributes.bases.form=one_hot", "source.fasta=x"]
    plan = make_plan(recipe, sets=sets)
    rows = {table.table: table for table in plan.tables}
    assert rows["peak_kmer"].bytes == 4 * 10 * 4  # 4 peaks, 10 dinucleotides in pairs of complements, 4 bytes
    assert rows["peak_bases"].bytes == 4 * 100 * 4
    for what in ("rows", "bytes", "seconds"):
        assert plan.totals[what] == pytest.approx(sum(getattr(table, what) or 0 for table in plan.tables), abs=0.01)
    assert plan.totals["unknown"] == sum(table.rows is None for table in plan.tables) == 0
    assert plan.as_dict()["totals"] == plan.totals
    assert all("kept" not in row for row in plan.table_rows())


def test_a_plan_says_what_a_store_would_give(recipe, tmp_path):
    db = tmp_path / "priors.duckdb"
    assert not any(row["kept"] for row in make_plan(recipe, db=db).table_rows())
    build_store(recipe, db, progress=False)
    whole = make_plan(recipe, db=db)
    changed = make_plan(recipe, db=db, sets=["edges.gene_peak.within_bp=100"])
    rows = {row["table"]: row["kept"] for row in changed.table_rows()}
    assert {name for name, kept in rows.items() if not kept} == {"gene_peak", "chromosome"}
    assert whole.totals["seconds"] < make_plan(recipe).totals["seconds"] + 0.01
    absent = make_plan(recipe, db=db, sets=["source.peaks=null"])
    rows = {row["table"]: row["kept"] for row in absent.table_rows()}
    assert rows["gene"]
    assert not rows["peak"]
    assert not rows["gene_peak"]


def test_a_plan_of_a_shipped_recipe_asks_no_network(tmp_path):
    plan = make_plan("human_grch38", mirror=tmp_path)
    where = {source.name: source.where for source in plan.sources}
    assert where["peaks"] == "missing"
    assert where["gtf"] in {"to fetch", "cache"}
    assert {table.table for table in plan.tables} >= {"gene", "gene_peak", "protein_protein", "gene_gene"}


def test_a_source_that_is_only_looked_at_beside_others_is_not_fetched_for_its_own_sake():
    whole = load_recipe("mouse_grcm38")
    assert "string_aliases" in whole.used  # STRING's links need them
    assert "fasta" not in whole.used  # the assembly check alone would look at its index
    without = load_recipe("mouse_grcm38", ["edges.interactions=false"])
    assert "string_aliases" not in without.used
    reading = load_recipe("mouse_grcm38", ["attributes.sequence.fasta=true"])
    check = next(step for step in reading.steps if step[0].name == "assembly_check")
    assert reading.read_by(*check) == ("fasta",)
