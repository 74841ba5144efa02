"""Attribution of a match to gene-peak links, beside the attention weights: gradients along a path, and ablation.

Whether attention weights explain a prediction is contested. Jain and Wallace ("Attention is not Explanation", NAACL
2019) found in recurrent text classifiers that weights agreed little with gradients and with leaving words out, and that
quite other weights could give the same output. Wiegreffe and Pinter ("Attention is not not Explanation", EMNLP 2019)
replied that such weights were sought per example for a fixed model, which does not show that a trained model could have
them, and gave other tests. So no one column of :func:`attribute` is the explanation: they answer different questions,
:func:`~heteromics.interpret.agreement` says where they agree, and :func:`~heteromics.interpret.sanity_check` whether
they depend on what the model has learnt.

Weighed and left aside: Captum, whose integrated gradients and ablation start from dense inputs of one example; here a
batch of pairs is one sparse graph and the attention need not be run again along the path.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from heteromics.errors import ModelError
from heteromics.interpret._attribution_values import gradient_products, two_columns
from heteromics.models._bi2former_attribution import AfterAttention
from heteromics.models._links import LinkSums, candidate_keys, in_order
from heteromics.models.bi2former import Bi2Former, _groups

if TYPE_CHECKING:
    from pandas import DataFrame

    from heteromics.graphs import HeteroGraph, PairBatch

__all__ = ["METHODS", "Method", "attribute"]

Method = Literal["attention", "effect", "integrated_gradients", "ablation", "ablation_renormalised", "gradient_product"]
METHODS: tuple[Method, ...] = get_args(Method)
_AFTER = ("integrated_gradients", "ablation", "ablation_renormalised")
_STEPS, _STEPS_OF_MEANS = 16, 512
Float = NDArray[np.float64]


def attribute(
    model: Bi2Former,
    graph: HeteroGraph | None,
    pairs: ArrayLike,
    candidates: DataFrame,
    methods: Sequence[Method] = ("attention", "effect", "integrated_gradients", "ablation"),
    groups: ArrayLike | None = None,
    *,
    steps: int | None = None,
    device: str = "auto",
    progress: bool = False,
) -> DataFrame:
    """Say by several methods what each candidate link does to the log odds that two profiles are of one cell.

    Parameters
    ----------
    model
        Fitted.
    graph
        With the profiles; None takes the graph of training.
    pairs
        Rows of ``rna_cell`` and ``atac_cell``, shape (n, 2), as a rule the two profiles of the same cells; or the rows
        of cells, shape (n,), for ``(cell, cell)``.
    candidates
        Columns ``gene`` and ``peak``; of :func:`heteromics.interpret.candidate_links`, or the ten strongest of each
        gene, ``model.links(pairs).groupby("gene").head(10)``.
    methods
        ``"attention"``: the weight of the link, mean of both ways and all heads and layers; it has no sign.

        ``"effect"``: weight times gradient, a first-order estimate of what the log odds lose without the link.

        ``"integrated_gradients"``: gradients averaged along the straight path from no weight at all to the weights of
        the model, times the weights (Sundararajan, Taly and Yan, ICML 2017). Over all links of a pair they add up to
        the log odds minus those without any link.

        ``"ablation"``: exactly what the log odds lose without the link, in both directions and all heads, all other
        weights as they were; ``"ablation_renormalised"``: the other links of the gene share its weight as their
        softmax would. Sigmoid weights do not depend on each other: there the two are the same. Links that were
        pruned do not come back.

        ``"gradient_product"``: (value times gradient) of the gene times (value times gradient) of the peak, counts as
        values; it is large where the log odds lean on both, needs no link between them, and is negative where they
        pull apart. A gradient asks how much of a peak is open, not whether it is; that is what
        :func:`heteromics.interpret.delete_peaks` asks.
    groups
        A label per pair, such as its cell type; means are then taken within each.
    steps
        Points on the path of integrated gradients, by the rule of Gauss and Legendre; None takes 16, or 512 in a model
        without activation, where they cost next to nothing. The rectifiers of ``classifier="mlp"`` ask for many.
    device
        ``"auto"``, ``"cpu"`` or ``"cuda"``.
    progress
        Show it on stderr.

    Returns
    -------
    DataFrame
        ``gene, peak``, with groups ``group``, then ``score`` (the effect, so that this is a table of links), a column
        per method, ``n_pairs`` and ``frequency``; in the order of the candidates, group after group. All columns of
        methods are means over the ``n_pairs`` pairs in which the gene is expressed and the peak is open, 0 where there
        are none; a pair in which the link was pruned counts as 0, but for ``"gradient_product"``. Larger supports the
        match, but for attention.

        With integrated gradients ``table.attrs["integrated_gradients"]`` holds ``steps``, ``explained`` and
        ``missing``: means over pairs of the size of the log odds to be explained, and of what the links miss of it.

    Raises
    ------
    ModelError
        For another model, an unknown method or fewer than 1 step; for integrated gradients and ablation also for a
        network of several layers, where a link of one changes the attention of the next.
    GraphError
        For a candidate or a pair that is not in the graph.

    Notes
    -----
    Batches of pairs are streamed; sums are float64, and so is all that follows the attention in integrated gradients
    and ablation. Attention and effect take one pass forward and backward, integrated gradients and ablation together
    one more forward, gradient products one more of both. With E kept links and N nodes of width W, the path costs
    ``steps * N * W`` where there is an activation, ablation ``E * W`` over the candidates, renormalised that times the
    links of a gene. Memory: a batch, and one number per candidate and method; gradient products hold up to 4 M values
    of pairs.

    Examples
    --------
    >>> attribute(None, None, [0], None, methods=["saliency"])
    Traceback (most recent call last):
        ...
    heteromics.errors.ModelError: methods: found saliency; expected some of attention, effect, integrated_gradients, \
ablation, ablation_renormalised, gradient_product.
    """
    import pandas as pd

    _check(methods, steps)
    _check_model(model, methods)
    graph = model._graph_or_own(graph)
    rows = two_columns(pairs)
    links = model.links(rows, groups, candidates=candidates, graph=graph, device=device, progress=progress)
    links["effect"] = links["score"]
    wanted = candidate_keys(graph, candidates)
    peaks = graph.num_nodes("peak")
    labels, code = _groups(groups, len(rows))
    there = np.maximum(links["n_pairs"].to_numpy(np.float64), 1).reshape(len(labels), -1)
    further: dict[str, list[Float]] = {name: [] for name in methods if name not in ("attention", "effect")}
    path = _Path(steps or (_STEPS if model.config.activation else _STEPS_OF_MEANS))
    for number, label in enumerate(labels):
        chosen = rows[code == number]
        what = f"attribution {label}".strip()
        sums = _sum_after(model, graph, chosen, wanted, further, path, device, what, progress=progress)
        if "gradient_product" in further:
            ends = wanted // peaks, wanted % peaks
            sums["gradient_product"] = gradient_products(model, graph, chosen, *ends, device, what, progress=progress)
        for name, values in sums.items():
            further[name].append(values / there[number])
    links = links.assign(**{name: np.concatenate(parts) for name, parts in further.items()})
    named = ["gene", "peak", *(["group"] if groups is not None else []), "score"]
    table = pd.DataFrame(links[[*named, *methods, "n_pairs", "frequency"]])
    if "integrated_gradients" in methods:
        table.attrs["integrated_gradients"] = path.summary()
    return table


class _Path:
    """How much of the log odds integrated gradients had to explain, and how much they missed."""

    def __init__(self, steps: int) -> None:
        self.steps, self.pairs, self.explained, self.missing = steps, 0, 0.0, 0.0

    def follow(self, after: AfterAttention) -> list[torch.Tensor]:
        found, explained = after.integrated_gradients(self.steps)
        self.pairs += len(explained)
        self.explained += float(explained.abs().sum())
        self.missing += float((explained - after.summed(found)).abs().sum())
        return found

    def summary(self) -> dict[str, float]:
        pairs = max(self.pairs, 1)
        return {"steps": self.steps, "explained": self.explained / pairs, "missing": self.missing / pairs}


def _sum_after(
    model: Bi2Former,
    graph: HeteroGraph,
    pairs: NDArray[np.int64],
    wanted: NDArray[np.int64],
    methods: Sequence[str] | dict[str, list[Float]],
    path: _Path,
    device: str,
    what: str,
    *,
    progress: bool,
) -> dict[str, Float]:
    """Sum by candidate what integrated gradients and ablation give over pairs, each shape (L,)."""
    sums = {name: LinkSums(np.unique(wanted)) for name in methods if name in _AFTER}
    if not sums:
        return {}
    peaks = graph.num_nodes("peak")
    of_softmax = model.config.weights != "sigmoid"
    sorted_keys = torch.from_numpy(np.unique(wanted))
    for batch in model._batches(graph, pairs, device, what, progress=progress):
        after = AfterAttention.of(model._fitted(), batch)
        if "integrated_gradients" in sums:
            for head, values in zip(after.sent, path.follow(after), strict=True):
                key = _keys(batch, head.messages.gene_row, head.messages.peak_row, peaks)
                sums["integrated_gradients"].add(key.cpu().numpy(), values.cpu().numpy()[:, None])
        ablated = [name for name in sums if name != "integrated_gradients"]
        if ablated:
            gene_row, peak_row = after.links()
            key = _keys(batch, gene_row, peak_row, peaks)
            kept = torch.isin(key, sorted_keys.to(key.device))
            gene_row, peak_row, key = gene_row[kept], peak_row[kept], key[kept]
        for name in ablated:
            renormalise = name == "ablation_renormalised" and of_softmax
            values = after.ablation(gene_row, peak_row, renormalise=renormalise)
            sums[name].add(key.cpu().numpy(), values.cpu().numpy()[:, None])
    return {name: in_order(wanted, *_totals(found))[:, 0] for name, found in sums.items()}


def _totals(sums: LinkSums) -> tuple[NDArray[np.int64], Float]:
    key, found = sums.totals()
    return key, found if key.size else np.zeros((0, 1))


def _keys(batch: PairBatch, gene_row: torch.Tensor, peak_row: torch.Tensor, peaks: int) -> torch.Tensor:
    return batch.gene[gene_row].long() * peaks + batch.peak[peak_row].long()


def _check(methods: Sequence[str], steps: int | None) -> None:
    unknown = [str(name) for name in methods if name not in METHODS]
    if unknown or isinstance(methods, str) or not methods:
        found = methods if isinstance(methods, str) else ", ".join(unknown) or "none"
        raise ModelError(f"methods: found {found}; expected some of {', '.join(METHODS)}.")
    if steps is not None and steps < 1:
        raise ModelError(f"steps: found {steps}, expected 1 or more.")


def _check_model(model: Bi2Former, methods: Sequence[str]) -> None:
    if not isinstance(model, Bi2Former):
        raise ModelError(f"found a {type(model).__name__}; links are attributed in Bi2Former, which has attention.")
    config = model.config
    if "ablation_renormalised" in methods and config.weights != "sigmoid" and config.directions == "separate":
        raise ModelError(
            "ablation_renormalised: found weights that both the links of a gene and those of a peak share "
            "(directions='separate'), expected those of a gene alone. Fix: methods=['ablation']."
        )
