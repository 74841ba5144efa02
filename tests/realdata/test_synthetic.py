import numpy as np
import pandas as pd
import pytest

from heteromics.data.synthetic import networks


@pytest.mark.realdata
def test_combined_score_is_that_of_string(mirror):
    links = pd.read_csv(mirror / "prior_string_v11_sample" / "STRING11_9606_links.txt.gz", sep=" ")
    ours = networks.combined_score(links[list(networks.CHANNELS)].to_numpy())
    gap = np.abs(ours - links["combined_score"])  # STRING rounds the channels that it prints
    assert len(links) == 10_000
    assert gap.max() <= 2
    assert (gap == 0).mean() > 0.8
