import pytest

from heteromics import _config
from heteromics.errors import RecipeError
from heteromics.workflows.settings import MatchingSettings, PredictionSettings, SplitSettings, read_settings


@pytest.mark.parametrize("cls", [PredictionSettings, MatchingSettings])
def test_settings_come_back_from_their_plain_values(cls):
    settings = read_settings(cls, ["fit.max_epochs=7", "split.column=part", "model.max_epochs=9"])
    assert settings.fit.max_epochs == 7
    assert settings.model.max_epochs == 9
    assert _config.build(cls, _config.as_dict(settings), "run.json") == settings


def test_values_are_read_as_their_type():
    settings = read_settings(PredictionSettings, ["data.gmt=p.gmt", "data.batch=null", "split.test_share=0.3"])
    assert settings.data.gmt.name == "p.gmt"
    assert settings.data.batch is None
    assert settings.split == SplitSettings(test_share=0.3)


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        pytest.param("data.layers=counts", "--set.data: unknown key 'layers'. Did you mean 'layer'?", id="group key"),
        pytest.param("modle.width=8", "--set: unknown key 'modle'. Did you mean 'model'?", id="group"),
        pytest.param("model.widht=8", "--set.model: unknown key 'widht'. Did you mean 'width'?", id="model key"),
        pytest.param("model.width=wide", "--set.model.width: found 'wide' (str), expected int", id="type"),
        pytest.param("model.width=9", "width=9 is not a multiple of groups=4", id="model value"),
        pytest.param("data.values=raw", "--set.data.values: found 'raw', expected one of 'counts', 'norm", id="word"),
        pytest.param("fit.max_epochs=0", "fit.max_epochs: found 0, expected 1 or more", id="epochs"),
        pytest.param("split.test_share=0.9", "found validation_share 0.15 and test_share 0.9; expected both", id="sum"),
        pytest.param("split.test_share=0", "test_share 0.0; expected both above 0 and together below 1", id="zero"),
        pytest.param("fit.max_epochs", "found no '=', expected key=value", id="no value"),
    ],
)
def test_what_cannot_be_is_named(assignment, message):
    with pytest.raises(RecipeError) as caught:
        read_settings(PredictionSettings, [assignment])
    assert message in str(caught.value)


def test_a_fixed_split_takes_no_groups():
    with pytest.raises(RecipeError, match=r"found column 'part' and group_column 'donor'; expected one of them"):
        read_settings(MatchingSettings, ["split.column=part", "split.group_column=donor"])


@pytest.mark.parametrize(("key", "value"), [("mask", "windows"), ("negatives", "all")])
def test_words_of_matching_are_checked(key, value):
    place = key if key == "negatives" else f"data.{key}"
    with pytest.raises(RecipeError, match=rf"--set\.{place}: found '{value}', expected one of"):
        read_settings(MatchingSettings, [f"{place}={value}"])
