"""Every matrix of the mirror is read, and every file of the mirror is the one the manifest promises."""

import hashlib

import numpy as np
import pytest

from heteromics.data import check_unique_names, load_manifest, locate, modalities, read, whereabouts
from heteromics.data.fetch import fetch
from heteromics.errors import DuplicateNames, NotCounts

pytestmark = pytest.mark.realdata

# file, modality, layer, what to expect, cells, features (shapes as the README of the mirror states them)
MATRICES = [
    ("multiome_snareseq_mop/rna.h5ad", "rna", "X", "counts", 10_309, 1_677),
    ("multiome_snareseq_mop/atac.h5ad", "atac", "X", "counts", 10_309, 25_734),
    ("multiome_snareseq_h1_hg38/rna.h5ad", "rna", "X", "normalised", 385, 8_595),
    ("multiome_snareseq_h1_hg38/atac.h5ad", "atac", "X", "counts", 385, 36_954),
    ("multiome_pbmc_tiny_hg38/rna.h5ad", "rna", "X", "counts", 40, 36_601),
    ("multiome_pbmc_tiny_hg38/atac.h5ad", "atac", "X", "counts", 40, 108_377),
    ("multiome_pbmc10k_hg38_51genes/rna.h5ad", "rna", "X", "normalised", 6_805, 51),
    ("multiome_pbmc10k_hg38_51genes/atac_tiles500.h5ad", "atac", "X", "counts", 6_805, 2_724),
    ("cite_bmmc_neurips2021/common.output_rna.h5ad", "rna", "counts", "counts", 600, 1_000),
    ("cite_bmmc_neurips2021/common.output_mod2.h5ad", "protein", "counts", "counts", 600, 134),
    ("cite_bmmc_neurips2021/predict_modality/train_mod1.h5ad", "rna", "counts", "counts", 311, 1_000),
    ("cite_bmmc_neurips2021/predict_modality/train_mod2.h5ad", "protein", "counts", "counts", 311, 134),
    ("cite_bmmc_neurips2021/predict_modality/test_mod1.h5ad", "rna", "counts", "counts", 289, 1_000),
    ("cite_bmmc_neurips2021/predict_modality/test_mod2.h5ad", "protein", "counts", "counts", 289, 134),
    ("cite_bmmc_neurips2021/match_modality/train_mod1.h5ad", "rna", "counts", "counts", 311, 1_000),
    ("cite_bmmc_neurips2021/match_modality/train_mod2.h5ad", "protein", "counts", "counts", 311, 134),
    ("cite_bmmc_neurips2021/match_modality/test_mod1.h5ad", "rna", "counts", "counts", 289, 1_000),
    ("cite_bmmc_neurips2021/match_modality/test_mod2.h5ad", "protein", "counts", "counts", 289, 134),
    ("cite_bmmc_neurips2021/joint_embedding/mod1.h5ad", "rna", "counts", "counts", 600, 1_000),
    ("cite_bmmc_neurips2021/joint_embedding/mod2.h5ad", "protein", "counts", "counts", 600, 134),
    ("cite_bmmc_neurips2021/joint_embedding/solution.h5ad", "rna", "X", "normalised", 600, 1_000),
    ("rna_bmmc_multiome_neurips2021/common.output_rna.h5ad", "rna", "counts", "counts", 500, 600),
    ("cite_pbmc5k/pbmc_5k_protein_v3.h5ad", "rna", "X", "counts", 200, 16_581),
    ("cite_pbmc5k/pbmc_5k_protein_v3.h5ad", "protein", "obsm/protein_expression", "counts", 200, 29),
    ("cite_mosaic_pbmc_midas/quickstart_pbmc_mosaic.h5mu", "rna", "X", "counts", 1_200, 500),
    ("cite_mosaic_pbmc_midas/quickstart_pbmc_mosaic.h5mu", "protein", "X", "counts", 1_200, 224),
    ("protein_cite_asap_pbmc_ctrl/cite_protein.h5ad", "protein", "X", "counts", 5_023, 216),
    ("protein_cite_asap_pbmc_ctrl/asap_protein.h5ad", "protein", "X", "counts", 3_517, 216),
    ("spatial_merfish_mouse_poa/merfish_mousePOA.h5ad", "rna", "X", "normalised", 6_509, 155),
    ("spatial_osmfish_mouse_ssc/osmfish.h5ad", "rna", "X", "counts", 6_471, 33),
    ("spatial_osmfish_mouse_ssc/osmFISH_SScortex_mouse_all_cells.loom", "rna", "X", "counts", 6_471, 33),
    ("spatial_xenium_human_breast/xenium_breast_crop.h5ad", "rna", "X", "counts", 1_120, 312),
    ("spatial_imaging_protein/example_data.h5ad", "protein", "X", "normalised", 3_029, 33),
    ("spatial_imaging_protein/example_data.h5ad", "protein", "raw", "normalised", 3_029, 33),
    ("rna_pbmc68k_reduced/10x_pbmc68k_reduced.h5ad", "rna", "X", "normalised", 700, 765),
    ("rna_pbmc68k_reduced/10x_pbmc68k_reduced.h5ad", "rna", "raw", "normalised", 700, 765),
    ("rna_pbmc3k_raw", "rna", "X", "counts", 2_700, 32_738),
    ("rna_kang_ifnb_pbmc/kang_pbmc_sparse.h5ad", "rna", "X", "counts", 14_039, 1_000),
    ("perturb_cropseq_mcf10a_28genes/cropseq_28genes.h5ad", "rna", "X", "counts", 6_229, 28),
]


@pytest.mark.parametrize(("path", "modality", "layer", "expect", "cells", "features"), MATRICES)
def test_every_matrix_is_read_with_the_shape_it_should_have(mirror, path, modality, layer, expect, cells, features):
    data = read(mirror / path, modality=modality, layer=layer, expect=expect)
    assert data.shape == (cells, features)
    assert (data.X.format, data.X.dtype) == ("csr", np.float32)
    assert data.X.has_canonical_format
    assert data.X.nnz > 0
    assert modality in (modalities(mirror / path) or [modality])


def test_no_matrix_of_the_mirror_is_forgotten(mirror):
    readable = {
        path.relative_to(mirror).as_posix()
        for pattern in ("*.h5ad", "*.h5mu", "*.loom")
        for path in mirror.rglob(pattern)
        if not path.name.endswith("_sol.h5ad")  # which cell matches which: no features
    }
    assert readable == {entry[0] for entry in MATRICES} - {"rna_pbmc3k_raw"}


@pytest.mark.parametrize(
    ("path", "modality", "expected"),
    [
        pytest.param("multiome_snareseq_h1_hg38/rna.h5ad", "rna", "fractional", id="not integers as distributed"),
        pytest.param("spatial_merfish_mouse_poa/merfish_mousePOA.h5ad", "rna", "fractional", id="volume-normalised"),
        pytest.param("rna_pbmc68k_reduced/10x_pbmc68k_reduced.h5ad", "rna", "negative", id="scaled"),
    ],
)
def test_what_are_no_counts_is_noticed(mirror, path, modality, expected):
    with pytest.raises(NotCounts, match=rf"found [\d,]+ {expected} of"):
        read(mirror / path, modality=modality, layer="X")


def test_obs_and_coordinates_come_along(mirror):
    mop = read(mirror / "multiome_snareseq_mop/rna.h5ad", modality="rna", layer="X")
    assert mop.obs["cell_type"].nunique() == 23
    assert mop.obs["batch"].nunique() == 12
    mosaic = read(mirror / "cite_mosaic_pbmc_midas/quickstart_pbmc_mosaic.h5mu", modality="rna", layer="X")
    assert mosaic.obs["celltype"].nunique() == 8
    assert set(mosaic.obs["batch"].astype(str)) == {"p1_0", "p3_0", "p4_0"}
    poa = read(mirror / "spatial_merfish_mouse_poa/merfish_mousePOA.h5ad", modality="rna", layer="X", expect="any")
    assert poa.obsm["spatial"].shape == (6_509, 2)
    bmmc = read(mirror / "cite_bmmc_neurips2021/common.output_rna.h5ad", modality="rna", layer="counts")
    assert bmmc.var["gene_id"].str.startswith("ENSG").all()


def test_loom_and_its_h5ad_agree(mirror):
    folder = mirror / "spatial_osmfish_mouse_ssc"
    loom = read(folder / "osmFISH_SScortex_mouse_all_cells.loom", modality="rna", layer="X")
    h5ad = read(folder / "osmfish.h5ad", modality="rna", layer="X")
    assert (loom.X != h5ad[loom.obs_names, loom.var_names].X).nnz == 0


def test_symbols_of_10x_repeat_and_identifiers_do_not(mirror):
    data = read(mirror / "rna_pbmc3k_raw", modality="rna", layer="X")
    assert data.var_names.is_unique
    assert not data.var["symbol"].is_unique
    data.var_names = data.var["symbol"].astype(str)

    with pytest.raises(DuplicateNames, match=r"genes: \d+ of 32,?643 names"):
        check_unique_names(data.var_names, "genes")


def test_every_file_of_the_mirror_is_in_the_manifest_with_its_checksum(mirror):
    there = {path.relative_to(mirror).as_posix(): path for path in mirror.rglob("*") if path.is_file()}
    del there["README.md"]
    manifest = load_manifest()
    known = {f"{item.name}/{file.name}": file for item in manifest.values() for file in item.files}
    assert set(there) <= set(known)
    for name, path in there.items():
        content = path.read_bytes()
        assert (known[name].sha256, known[name].bytes) == (hashlib.sha256(content).hexdigest(), len(content)), name


def test_every_item_of_the_mirror_is_fetched_in_place(mirror, tmp_path):
    manifest = load_manifest()
    inside = [item for item in manifest.values() if (mirror / item.name).is_dir()]
    assert len(inside) == 32
    for item in inside:
        assert whereabouts(item, mirror=mirror, to=tmp_path) == "mirror"
        assert fetch(item.name, mirror=mirror, progress=False) == mirror / item.name
    path = locate("prior_motifs_jaspar/jaspar_2024_consensus.meme", mirror=mirror)
    assert path == mirror / "prior_motifs_jaspar/jaspar_2024_consensus.meme"
