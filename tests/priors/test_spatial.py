import anndata
import numpy as np
import pandas as pd
import pytest

from heteromics import _config
from heteromics.errors import DataError, DuplicateNames, MissingLayer, PriorError, RecipeError, UnreadableFile
from heteromics.priors import PriorStore
from heteromics.priors.neighbours import nearest
from heteromics.priors.planning import PlanContext
from heteromics.priors.sources import AtHand
from heteromics.priors.spatial import SpatialConfig, build_spatial, estimate_spatial
from tests.priors.prior_files import context_with, fits, tally, written

TABLE = """\
cell,x,y,library
z,0,0,left
b,3,4,left
m,30,40,left
a,0,1,right
c,0,0,right
"""


def table_of(tmp_path, text=TABLE, config=None, name="cells.csv"):
    return build_spatial(context_with({"spatial": written(tmp_path / name, text)}), config or SpatialConfig(k=1))


def edges_of(built):
    rows = built.tables["cell_cell"].to_pylist()
    return [(row["cell_a"], row["cell_b"], row["distance"], row["mutual"]) for row in rows]


def h5ad(path, points=None, **obs):
    count = len(points) if points is not None else len(next(iter(obs.values())))
    data = anndata.AnnData(np.zeros((count, 1)), obs=pd.DataFrame(obs, index=[f"c{n}" for n in range(count)]))
    if points is not None:
        data.obsm["spatial"] = points
    data.write_h5ad(path)
    return path


def test_cells_are_linked_within_their_library_and_named_in_order(tmp_path):
    built = table_of(tmp_path)
    assert fits(built)
    assert [tuple(row.values()) for row in built.tables["cell"].to_pylist()] == [
        ("z", "left", 0, 0, None),
        ("b", "left", 3, 4, None),
        ("m", "left", 30, 40, None),
        ("a", "right", 0, 1, None),
        ("c", "right", 0, 0, None),
    ]
    assert edges_of(built) == [("a", "c", 1, True), ("b", "m", 45, False), ("b", "z", 5, True)]
    assert set(built.tables["cell_cell"]["evidence"].to_pylist()) == {
        "one of the 1 nearest cells; distance in the unit of the file"
    }


def test_libraries_of_too_few_cells_get_what_they_have_and_are_named(tmp_path):
    built = table_of(tmp_path, TABLE + "alone,1,1,third\n", SpatialConfig(k=2))
    assert edges_of(built) == [("a", "c", 1, True), ("b", "m", 45, True), ("b", "z", 5, True), ("m", "z", 50, True)]
    assert [(match.name, match.outcome, match.detail) for match in built.matches["cell_cell"]] == [
        ("right", "clipped", "2 cells: 1 neighbours each, not 2"),
        ("third", "clipped", "1 cells: 0 neighbours each, not 2"),
    ]
    assert {(count.source, count.outcome): count.n for count in built.counts["cell_cell"]} == {
        ("cells.csv", "matched"): 5,
        ("cells.csv", "out_of_reach"): 1,
        ("cells.csv, libraries", "matched"): 1,
        ("cells.csv, libraries", "clipped"): 2,
    }


def test_a_radius_is_in_the_unit_stated(tmp_path):
    pixels = SpatialConfig(kind="radius", radius=5.0, unit="as_given")
    assert edges_of(table_of(tmp_path, config=pixels)) == [("a", "c", 1, True), ("b", "z", 5, True)]
    um = SpatialConfig(kind="radius", radius=2.4, unit="um", um_per_unit=0.5)
    built = table_of(tmp_path, config=um)
    assert edges_of(built) == [("a", "c", 0.5, True)]
    assert built.tables["cell"]["x"].to_pylist() == [0, 1.5, 15, 0, 0]
    assert built.tables["cell_cell"]["evidence"].to_pylist() == ["within 2.4 um"]
    assert tally(built, "cell_cell")["out_of_reach"] == 3
    wider = SpatialConfig(kind="radius", radius=2.5, unit="um", um_per_unit=0.5)
    assert len(edges_of(table_of(tmp_path, config=wider))) == 2


@pytest.mark.parametrize("kind", ["nearest", "radius", "delaunay"])
def test_two_libraries_together_equal_each_alone(tmp_path, kind):
    rng = np.random.default_rng(0)
    points, library = rng.random((60, 2)) * 100, rng.choice(["one", "two"], 60)
    config = SpatialConfig(kind=kind, **({"radius": 20.0, "unit": "as_given"} if kind == "radius" else {}))

    def edges(rows):
        path = h5ad(tmp_path / "a.h5ad", points[rows], library=library[rows], index=np.flatnonzero(rows))
        index = anndata.read_h5ad(path).obs["index"].to_dict()
        found = build_spatial(context_with({"spatial": path}), config).tables["cell_cell"].to_pylist()
        return {(*sorted((index[row["cell_a"]], index[row["cell_b"]])), row["mutual"]) for row in found}

    both = edges(np.ones(60, bool))
    assert both == edges(library == "one") | edges(library == "two")
    assert len(both) > 60


def test_h5ad_text_and_parquet_give_the_same(tmp_path):
    points = np.random.default_rng(1).random((40, 3)).round(3)
    names = [f"c{n}" for n in range(40)]
    frame = pd.DataFrame({"id": names, "x": points[:, 0], "y": points[:, 1], "z": points[:, 2], "slide": "s1"})
    frame.to_csv(tmp_path / "a.tsv.gz", sep="\t", index=False)
    frame.to_parquet(tmp_path / "a.parquet")
    frame.set_index("id").to_parquet(tmp_path / "b.parquet")
    config = SpatialConfig(k=4, cell="id", library="slide")
    tables = [
        build_spatial(context_with({"spatial": path}), config).tables
        for path in (h5ad(tmp_path / "a.h5ad", points, slide=["s1"] * 40), *sorted(tmp_path.glob("?.[tp]*")))
    ]
    assert len(tables) == 4
    for other in tables[1:]:
        assert other["cell"].equals(tables[0]["cell"])
        assert other["cell_cell"].equals(tables[0]["cell_cell"])
    assert tables[0]["cell"]["z"].to_pylist() == points[:, 2].tolist()
    assert tables[0]["cell_cell"].num_rows == nearest(points, 4).a.size


def test_coordinates_may_be_columns_of_obs(tmp_path):
    path = h5ad(tmp_path / "a.h5ad", X_position=[0.0, 1.0], Y_position=[0, 2])
    with pytest.raises(MissingLayer, match=r"no obsm\['spatial'\]; obsm: none; obs: X_position, Y_position"):
        build_spatial(context_with({"spatial": path}), SpatialConfig())
    built = build_spatial(context_with({"spatial": path}), SpatialConfig(columns=("X_position", "Y_position")))
    assert edges_of(built) == [("c0", "c1", 5**0.5, True)]
    assert built.matches["cell_cell"][0].name == "all cells"


def test_bad_input_is_named(tmp_path):
    path = h5ad(tmp_path / "a.h5ad", np.array([[np.nan, 1], [1, 2], [3, np.inf]]))
    with pytest.raises(DataError, match="2 of 3 cells have a coordinate that is not finite: c0, c2"):
        build_spatial(context_with({"spatial": path}), SpatialConfig())
    with pytest.raises(UnreadableFile, match=r"line 3: found NaN as x, (.*)1 of 2"):
        table_of(tmp_path, "cell,x,y\na,0,0\nb,NaN,1\n")
    with pytest.raises(DuplicateNames, match=r"cells of cells.csv: 1 of 2 names are used more than once"):
        table_of(
            tmp_path,
            TABLE.replace("library\n", "library\nz,9,9,right\n").splitlines(True)[0] + "z,1,1,l\nz,2,2,r\nb,1,1,l\n",
        )
    with pytest.raises(MissingLayer, match=r"no column 'cell'. Did you mean 'cells'"):
        table_of(tmp_path, "cells,x,y\na,0,0\n")
    with pytest.raises(MissingLayer, match=r"found no column 'slide'"):
        table_of(tmp_path, config=SpatialConfig(library="slide"))
    with pytest.raises(DataError, match=r"1 of 2 cells have no library"):
        table_of(tmp_path, "cell,x,y,library\na,0,0,one\nb,0,0,\n")
    with pytest.raises(DataError, match="1 of 2 cells have no name"):
        table_of(tmp_path, "cell,x,y\n,0,0\nb,0,0\n")
    pd.DataFrame({"cell": ["a", None], "x": [0, 1], "y": [0, 1]}).to_parquet(tmp_path / "nameless.parquet")
    with pytest.raises(DataError, match="1 of 2 cells have no name"):
        build_spatial(context_with({"spatial": tmp_path / "nameless.parquet"}), SpatialConfig())
    with pytest.raises(DataError, match="no cell in it"):
        table_of(tmp_path, "cell,x,y\n")
    with pytest.raises(DataError, match=r"coordinates of shape \(2, 4\), expected two or three"):
        build_spatial(context_with({"spatial": h5ad(tmp_path / "a.h5ad", np.ones((2, 4)))}), SpatialConfig())
    path = h5ad(tmp_path / "a.h5ad", here=["a", "b"], there=["c", "d"])
    with pytest.raises(DataError, match="coordinates that are no numbers"):
        build_spatial(context_with({"spatial": path}), SpatialConfig(columns=("here", "there")))
    for name in ("b.h5ad", "b.parquet"):
        with pytest.raises(UnreadableFile, match="is not a readable"):
            table_of(tmp_path, "no", name=name)
    many = "cell,x,y\n" + "".join(f"c{n},{n},0\n" for n in range(2_000))
    with pytest.raises(PriorError, match=r"within 10000, a cell has 1,999 neighbours on average"):
        table_of(tmp_path, many, SpatialConfig(kind="radius", radius=10_000.0, unit="as_given"))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"k": 0}, "k: found 0"),
        ({"kind": "radius"}, "found radius None with kind radius"),
        ({"radius": 5}, "found radius 5.0 with kind nearest"),
        ({"kind": "radius", "radius": 5}, "found radius 5 and unit None"),
        ({"kind": "radius", "radius": -5, "unit": "as_given"}, "found radius -5"),
        ({"unit": "um"}, "`unit: um` needs um_per_unit, 1 where the file is in micrometres"),
        ({"um_per_unit": 0.3}, "found unit None and um_per_unit 0.3"),
        ({"unit": "um", "um_per_unit": 0}, "um_per_unit: found 0, expected above 0"),
        ({"longest_percentile": 99}, "longest_percentile: found 99 with kind nearest"),
        ({"kind": "delaunay", "longest_percentile": 101}, "longest_percentile: found 101"),
        ({"columns": ["x"]}, "columns: found 1, expected two or three"),
    ],
)
def test_recipe_keys_are_checked(keys, message):
    with pytest.raises(RecipeError, match=message):
        _config.build(SpatialConfig, keys, "edges.spatial")


def test_a_recipe_builds_cells_beside_the_rest(recipe):
    written(recipe.parent / "cells.csv", TABLE)
    text = recipe.read_text().replace("sources: {", "sources: {spatial: cells.csv, ")
    recipe.write_text(text + "  spatial: {kind: delaunay, unit: um, um_per_unit: 2}\n")
    with PriorStore.build(recipe, recipe.with_name("s.duckdb"), progress=False) as store:
        assert store.neighbors("b")["node"].tolist() == ["m", "z"]
        assert store.frame("cell_cell")["distance"].tolist() == [2, 90, 10]
    assert {table.table: table.rows for table in PriorStore.plan(recipe).tables}["cell_cell"] == 15


@pytest.mark.parametrize("name", ["a.h5ad", "a.parquet", "a.csv"])
def test_the_plan_counts_cells_and_pairs(tmp_path, name):
    path, frame = tmp_path / name, pd.DataFrame({"cell": list("abcde"), "x": 1.0, "y": 2.0})
    if name.endswith("h5ad"):
        h5ad(path, np.zeros((5, 2)))
    else:
        frame.to_parquet(path) if name.endswith("parquet") else frame.to_csv(path, index=False)
    plan = PlanContext(None, {"spatial": AtHand("spatial", "a", "file", path, 1)})
    assert estimate_spatial(plan, SpatialConfig(k=2)) == {"cell": 5, "cell_cell": 6}
    radius = SpatialConfig(kind="radius", radius=1.0, unit="as_given")
    assert estimate_spatial(plan, radius) == {"cell": 5, "cell_cell": None}
    assert estimate_spatial(PlanContext(None, {}), radius) == {"cell": None, "cell_cell": None}


def test_the_estimate_of_pairs_is_that_of_points_scattered_evenly():
    points = np.random.default_rng(0).random((5_000, 2))
    for k in (4, 6, 15):
        assert nearest(points, k).a.size == pytest.approx(0.6 * k * 5_000, rel=0.1)
