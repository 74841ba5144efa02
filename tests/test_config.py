from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from heteromics._config import as_dict, build, override, read_yaml
from heteromics._resources import recipe_path
from heteromics.errors import RecipeError


@dataclass(frozen=True)
class Decay:
    kind: Literal["power", "linear"] = "power"
    scale_bp: int = 1_000

    def __post_init__(self):
        if self.scale_bp <= 0:
            raise ValueError(f"scale_bp: found {self.scale_bp}, expected a positive number of bp")


@dataclass(frozen=True)
class Links:
    within_bp: int
    decay: Decay = field(default_factory=Decay)
    share: float = 0.5
    names: tuple[str, ...] = ()
    path: Path | None = None
    groups: dict[str, int] = field(default_factory=dict)


def test_builds_nested_dataclasses_and_converts_plain_types():
    mapping = {"within_bp": 5, "decay": {"scale_bp": 7}, "share": 1, "names": ["a"], "path": "x/y", "groups": {"b": 2}}
    links = build(Links, mapping, "recipe.edges")
    assert links == Links(5, Decay(scale_bp=7), 1.0, ("a",), Path("x/y"), {"b": 2})
    assert build(Links, as_dict(links), "again") == links


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        pytest.param({"within_pb": 5}, r"links: unknown key 'within_pb'. Did you mean 'within_bp'\?", id="near key"),
        pytest.param({"qqq": 5}, "unknown key 'qqq'. Known keys: decay, groups", id="far key"),
        pytest.param({}, "links: missing within_bp", id="missing"),
        pytest.param({"within_bp": "5"}, r"links.within_bp: found '5' \(str\), expected int", id="type"),
        pytest.param({"within_bp": True}, r"found True \(bool\), expected int", id="bool is no int"),
        pytest.param(
            {"within_bp": 1, "decay": {"kind": "x"}},
            "links.decay.kind: found 'x', expected one of 'power'",
            id="literal",
        ),
        pytest.param(
            {"within_bp": 1, "decay": {"scale_bp": 0}}, "links.decay: scale_bp: found 0, expected a pos", id="own check"
        ),
        pytest.param({"within_bp": 1, "decay": 3}, "links.decay: found int, expected a mapping", id="mapping"),
        pytest.param({"within_bp": 1, "names": [3]}, r"links.names\[0\]: found 3", id="item"),
    ],
)
def test_bad_values_are_named(mapping, message):
    with pytest.raises(RecipeError, match=message):
        build(Links, mapping, "links")


def test_override_makes_groups_reads_yaml_and_leaves_the_original():
    original = {"edges": {"gene_peak": {"within_bp": 1}}}
    changed = override(original, ["edges.gene_peak.within_bp=50_000", "source.gtf=a/b.gtf", "share=.5", "on=true"])
    assert changed == {
        "edges": {"gene_peak": {"within_bp": 50_000}},
        "source": {"gtf": "a/b.gtf"},
        "share": 0.5,
        "on": True,
    }
    assert original == {"edges": {"gene_peak": {"within_bp": 1}}}
    with pytest.raises(RecipeError, match="found no '=', expected key=value"):
        override({}, ["within_bp"])
    with pytest.raises(RecipeError, match="'edges' is a value"):
        override({"edges": 1}, ["edges.x=2"])


def test_yaml_errors_name_the_file(tmp_path):
    with pytest.raises(RecipeError, match=r"none\.yaml: no such file"):
        read_yaml(tmp_path / "none.yaml")
    (tmp_path / "list.yaml").write_text("- 1")
    with pytest.raises(RecipeError, match="found list, expected a mapping"):
        read_yaml(tmp_path / "list.yaml")
    (tmp_path / "broken.yaml").write_text("a: [1")
    with pytest.raises(RecipeError, match="is not valid YAML"):
        read_yaml(tmp_path / "broken.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"a: 1 # \xe9")
    with pytest.raises(RecipeError, match=r"latin\.yaml is not valid YAML: .*utf-8"):
        read_yaml(tmp_path / "latin.yaml")
    (tmp_path / "empty.yaml").write_text("# nothing")
    with pytest.raises(RecipeError, match="found NoneType, expected a mapping"):
        read_yaml(tmp_path / "empty.yaml")


@pytest.mark.parametrize(
    ("text", "lines"),
    [("a: {b: 1}\nc: 2\na: {d: 3}\n", "1 and 3"), ("x: {a: 1, a: 2}", "1 and 1"), ("x:\n- a: 1\n  a: 1\n", "2 and 3")],
)
def test_a_key_that_stands_twice_is_not_dropped(tmp_path, text, lines):
    (tmp_path / "twice.yaml").write_text(text)
    with pytest.raises(RecipeError, match=rf"key 'a' stands in lines {lines}"):
        read_yaml(tmp_path / "twice.yaml")


def test_the_same_key_in_two_mappings_and_anchors_are_fine(tmp_path):
    (tmp_path / "fine.yaml").write_text("a: &one {k: 1}\nb: {<<: *one, k: 2}\nc: {k: [{k: 3}]}\n")
    assert read_yaml(tmp_path / "fine.yaml") == {"a": {"k": 1}, "b": {"k": 2}, "c": {"k": [{"k": 3}]}}


def test_recipes_are_found_by_name_or_path(tmp_path):
    (tmp_path / "mine.yaml").write_text("recipe: 1")
    assert recipe_path("priors", tmp_path / "mine.yaml") == tmp_path / "mine.yaml"
    with pytest.raises(RecipeError, match="no such recipe file"):
        recipe_path("priors", tmp_path / "other.yaml")
    assert recipe_path("priors", "demo").name == "demo.yaml"
    with pytest.raises(RecipeError, match=r"no priors recipe named 'demmo'\. Shipped: .*demo"):
        recipe_path("priors", "demmo")
