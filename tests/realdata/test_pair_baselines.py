"""The linear matcher on SNARE-seq of mouse cortex: beyond cell types and depth, on cells it was not fitted on."""

import numpy as np
import pytest

from heteromics.data import read
from heteromics.models import BilinearMatcher, CellTypeMatcher
from heteromics.tasks import auroc, make_pairs
from heteromics.tasks.matching import depth_scores

pytestmark = pytest.mark.realdata


def test_a_linear_map_tells_cells_of_one_type_apart(mirror):
    rna, atac = (
        read(mirror / "multiome_snareseq_mop" / f"{name}.h5ad", modality=name, layer="X") for name in ("rna", "atac")
    )
    types = rna.obs["cell_type"].to_numpy(str)
    cells = np.random.default_rng(0).permutation(rna.n_obs)
    train, test = cells[:3_000], cells[3_000:4_500]
    linear = BilinearMatcher().fit(rna[train], atac[train])
    control = CellTypeMatcher().fit(rna[train], types[train], atac[train], types[train])
    found = {}
    for mode in ("easy", "hard"):
        pairs, labels = make_pairs(test, types[test], mode=mode, seed=1)
        found[mode] = [auroc(labels, model.predict(rna, atac, pairs)) for model in (linear, control)]
        depth = depth_scores(rna.X, atac.X, np.stack([train] * 2, 1), pairs)
        found[mode].append(auroc(labels, depth))
    assert found["easy"][0] > found["easy"][1] + 0.05 > 0.75
    assert found["hard"][1] < 0.57  # types say next to nothing about cells of one type
    assert found["hard"][0] > found["hard"][2] + 0.02 > 0.6  # depth says most of what there is
    assert 0.3 < linear.correlations[0] < 0.9
