"""Attributions on SNARE-seq of mouse cortex: complete on real profiles, agreeing more than random weights do."""

import numpy as np
import pytest

from heteromics.data import read, split_cells
from heteromics.graphs import bipartite
from heteromics.interpret import agreement, attribute, candidate_links, delete_peaks, sanity_check
from heteromics.models import Bi2Former, Bi2FormerConfig
from heteromics.priors import PriorStore
from heteromics.tasks import make_pairs
from tests.realdata.test_snareseq import CELLS, RECIPE

pytestmark = pytest.mark.realdata

METHODS = ["attention", "effect", "integrated_gradients", "ablation"]


@pytest.fixture(scope="module")
def matched(mirror, tmp_path_factory):
    """A model fitted on 1,000 cells, 300 cells held out, and the candidates of the store within 150 kb."""
    folder = tmp_path_factory.mktemp("priors")
    recipe = folder / "mouse.yaml"
    recipe.write_text(RECIPE.format(mirror=mirror))
    data = [
        read(mirror / "multiome_snareseq_mop" / f"{name}.h5ad", modality=name, layer="X") for name in ("rna", "atac")
    ]
    code = split_cells(data[0].obs_names, shares=(1000 / CELLS, 300 / CELLS, 1 - 1300 / CELLS), seed=0).astype(int)
    train, held_out = (np.flatnonzero(code == part) for part in (0, 1))
    with PriorStore.build(recipe, folder / "priors.duckdb", progress=False) as store:
        graph = bipartite(*data, store, mask="window", training_cells=data[0].obs_names[train])
        candidates = candidate_links(graph, store)
    model = Bi2Former(graph, config=Bi2FormerConfig(id_width=32, key_width=32, top_k=None, max_epochs=4)).fit(
        lambda epoch: make_pairs(train, np.zeros(len(train)), mode="random", seed=epoch),
        validation=make_pairs(held_out, np.zeros(len(held_out)), mode="random"),
        progress=False,
        device="cpu",
    )
    return model, graph, candidates, held_out


def test_attributions_of_real_profiles_are_complete_and_agree(matched, record_property):
    model, graph, candidates, cells = matched
    table = attribute(model, graph, cells, candidates, METHODS)
    path = table.attrs["integrated_gradients"]
    assert path["missing"] < 1e-4 * path["explained"]
    assert table["n_pairs"].gt(0).sum() > 1_000
    close = agreement(table, METHODS, k=[100])
    found = {f"{row.left} {row.right}": (round(row.spearman, 3), row.shared) for row in close.itertuples()}
    record_property("agreement", str(found))
    assert found["integrated_gradients ablation"][0] > 0.9
    against = sanity_check(model, graph, cells, candidates, METHODS[1:2], seeds=(0,), k=[100])
    record_property("random weights", str(against.to_dict("records")))
    assert abs(against["spearman"].item()) < close["spearman"].max()


def test_deleting_a_peak_moves_the_genes_that_attended_to_it(matched):
    model, graph, candidates, cells = matched
    best = model.links(cells[:100], candidates=candidates).nlargest(5, "total")
    found = delete_peaks(model, graph, cells[:100], best["peak"])
    assert found.match["n_pairs"].min() > 0
    assert found.match["change"].abs().max() > 1e-4
    met = found.messages.merge(best[["gene", "peak"]])
    assert len(met) == 5
    assert met["change"].min() > 0
    assert len(found.messages) < candidates["peak"].isin(best["peak"]).sum() + 1_000
