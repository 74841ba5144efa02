import re

import numpy as np
import pandas as pd

from heteromics import plot
from heteromics.workflows.report import Detail, Section, picture, table, write_report


def test_page_is_self_contained_and_escaped(tmp_path):
    frame = pd.DataFrame({"model": ["<b>ours</b>", "peer"], "n": [12_345, 1], "RMSE": [0.12345, np.nan]})
    figures = [picture(plot.metric_bars({"x": value}, "m"), f"figure {value}") for value in (1.0, 2.0)]
    section = Section(
        "Results", ["a & b"], ["synthetic"], [table(frame, "Test cells", best=0)], figures, [Detail("log", "x<y")]
    )
    path = write_report(tmp_path / "deep" / "report.html", "Demo", "seed 0", [section])
    html = path.read_text(encoding="utf-8")
    assert "&lt;b&gt;ours&lt;/b&gt;" in html
    assert "a &amp; b" in html
    assert "12,345" in html
    assert "0.123" in html
    assert '<td class="number">–</td>' in html
    assert html.count("<svg") == 2
    assert not re.findall(r"""(?:src|href)=["'](?!#)""", re.sub(r"<\?xml.*?>", "", html).replace("xlink:href", "href"))
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]


def test_two_figures_on_one_page_share_no_ids(tmp_path):
    pictures = [picture(plot.metric_bars({"x": v}, "m"), f"figure {v}") for v in (1.0, 2.0)]
    one, two = (set(re.findall(r'<clipPath id="([^"]+)"', p.svg)) for p in pictures)
    assert one
    assert not one & two
