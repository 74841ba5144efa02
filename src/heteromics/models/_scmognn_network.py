"""The torch module of scMoGNN: message passing between cells and features, tensors in and tensors out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from heteromics.graphs.cell_feature import PATHWAY
from heteromics.nn.relation import Relation

if TYPE_CHECKING:
    from heteromics.graphs import HeteroGraph
    from heteromics.models.scmognn import ScMoGNNConfig

N_STATISTICS = 9


@dataclass(frozen=True, slots=True)
class CellFeatureTensors:
    """What the network reads of a graph.

    Attributes
    ----------
    expression
        Rows are cells, columns are features, weights are the values of the matrix; its transpose is used too.
    statistics
        Statistics of the batch of each cell, (cells, 9), float32.
    pathway
        Feature to feature, or None.
    """

    expression: Relation
    statistics: Tensor
    pathway: Relation | None = None

    def to(self, device: torch.device | str) -> CellFeatureTensors:
        """Return the same on another device."""
        return CellFeatureTensors(
            self.expression.to(device),
            self.statistics.to(device),
            None if self.pathway is None else self.pathway.to(device),
        )


def pathway_relation(graph: HeteroGraph, *, repeats: bool) -> Relation:
    """Return the feature-feature edges of a graph, each once, or as often as there are gene sets with both ends."""
    if not repeats:
        return Relation.from_graph(graph, PATHWAY)
    indptr, indices, edges = graph.adjacency(PATHWAY, by="dst")
    data = graph.edata(PATHWAY)
    times = data["shared"][edges.long()].long()
    bounds = functional.pad(times.cumsum(0), (1, 0))[indptr.long()]
    weight = data["weight"][edges.long()].repeat_interleave(times)
    return Relation.from_csr(bounds, indices.repeat_interleave(times), (graph.num_nodes("feature"),) * 2, weight)


class WeightedSAGE(nn.Module):
    """SAGE convolution with mean aggregation over weighted edges.

    ``out_v = W_self h_v + b + (1 / |N(v)|) sum_{u in N(v)} w_uv W_neigh h_u``: the weights are not normalised and the
    mean is over the number of edges, as in ``dgl.nn.SAGEConv(..., "mean")`` with ``edge_weight``, which is what was run
    (Eq 2.6-2.9 of the paper, degree-normalised, were not).
    """

    def __init__(self, n_in: int, n_out: int, edge_dropout: float) -> None:
        super().__init__()
        self.own = nn.Linear(n_in, n_out)
        self.neighbour = nn.Linear(n_in, n_out, bias=False)
        self.edge_dropout = edge_dropout

    def forward(self, relation: Relation, source: Tensor, destination: Tensor) -> Tensor:
        """Pass messages along ``relation`` (n_dst x n_src): (n_src, n_in) and (n_dst, n_in) to (n_dst, n_out).

        In training a share ``edge_dropout`` of the edge weights is set to zero and the others are rescaled.
        """
        dropout = self.edge_dropout if self.training else 0.0
        # W_neigh first: the states are at least as wide as the output, and both products are linear
        return self.own(destination) + relation.spmm(self.neighbour(source), reduce="mean", dropout=dropout)


class _Layer(nn.Module):
    """One round: cells hear their features; features hear their cells and, where there are any, their pathways.

    After the last round nobody reads the features, so there only cells listen.
    """

    def __init__(self, config: ScMoGNNConfig, n_in: int, *, pathway: bool, last: bool) -> None:
        super().__init__()
        width, share = config.width, config.pathway_share
        self.to_cell, self.cell_norm = WeightedSAGE(n_in, width, config.edge_dropout), _norm(config)
        self.last, self.share = last, share
        if not last:
            self.to_feature, self.feature_norm = WeightedSAGE(n_in, width, config.edge_dropout), _norm(config)
        if pathway and not last:
            self.along_pathway, self.pathway_norm = WeightedSAGE(n_in, width, config.edge_dropout), _norm(config)
            if share is None:
                self.mixing = nn.Parameter(torch.zeros(2))
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, graph: CellFeatureTensors, cell: Tensor, feature: Tensor) -> tuple[Tensor, Tensor]:
        from_features = self.cell_norm(self.to_cell(graph.expression, feature, cell))
        heard = self.dropout(functional.gelu(from_features))
        if self.last:
            return heard, feature
        message = self.feature_norm(self.to_feature(graph.expression.T, cell, feature))
        if graph.pathway is not None:
            related = self.pathway_norm(self.along_pathway(graph.pathway, feature, feature))
            share = torch.softmax(self.mixing, 0)[1] if self.share is None else self.share
            message = (1 - share) * message + share * related
        return heard, self.dropout(functional.gelu(message))


def _norm(config: ScMoGNNConfig) -> nn.Module:
    return nn.GroupNorm(config.groups, config.width) if config.groups else nn.Identity()


class CellFeatureNetwork(nn.Module):
    """scMoGNN for prediction: cell states after each layer are read out to one value per target.

    Parameters
    ----------
    config
        Sizes and switches.
    n_features, n_targets
        Features of the graph, values to predict.
    n_components
        Singular vectors of ``cell_init="svd"``; 0 for ``"shared"``.
    pathway
        Whether graphs bring feature-feature edges.
    """

    projection: Tensor
    statistics_range: Tensor
    statistics_mean: Tensor
    statistics_scale: Tensor

    def __init__(
        self, config: ScMoGNNConfig, n_features: int, n_targets: int, n_components: int, *, pathway: bool
    ) -> None:
        super().__init__()
        self.config = config
        width, layers = config.width, config.layers
        self.feature = nn.Embedding(n_features, width)
        if config.cell_init == "svd":
            self.register_buffer("projection", torch.zeros(n_features, n_components))
            self.project = nn.Linear(n_components, width)
        else:
            self.cell = nn.Embedding(1, width)
        if config.batch_statistics != "none":
            self.register_buffer("statistics_range", torch.tensor([[-torch.inf], [torch.inf]]).repeat(1, N_STATISTICS))
            self.register_buffer("statistics_mean", torch.zeros(N_STATISTICS))
            self.register_buffer("statistics_scale", torch.ones(N_STATISTICS))
            self.batch = nn.Linear(N_STATISTICS, width)
        wide = width if config.residual == "none" else 2 * width
        self.layers = nn.ModuleList(
            _Layer(config, width if index == 0 else wide, pathway=pathway, last=index == layers - 1)
            for index in range(layers)
        )
        concat = config.readout == "concat"
        self.layer_weight = None if concat else nn.Parameter(torch.zeros(layers))
        self.readout = nn.Linear(width * layers if concat else width, n_targets)

    @torch.no_grad()
    def start_at(self, target_mean: Tensor, statistics: Tensor, projection: Tensor | None) -> None:
        """Set what is taken from training cells instead of learnt by gradient.

        Parameters
        ----------
        target_mean
            Mean of every target, (n_targets,), where the output starts.
        statistics
            Batch statistics of the training cells, (cells, 9).
        projection
            Features x components, for ``cell_init="svd"``.
        """
        self.readout.bias.copy_(target_mean)
        if self.config.batch_statistics == "standardised":
            mean, spread = statistics.mean(0), statistics.std(0, correction=0)
            varies = spread > 1e-6 * mean.abs().clamp(min=1.0)
            self.statistics_range.copy_(torch.stack([statistics.amin(0), statistics.amax(0)]))
            self.statistics_mean.copy_(mean)
            self.statistics_scale.copy_(torch.where(varies, 1 / spread.clamp(min=1e-12), 0.0))
        if projection is not None:
            self.projection.copy_(projection)

    def embed(self, graph: CellFeatureTensors) -> Tensor:
        """Return what the readout reads: (cells, width), or (cells, layers x width) for ``readout="concat"``."""
        cell, feature = self._start(graph), self.feature.weight
        if self.config.activate_features:
            feature = functional.leaky_relu(feature)
        states = [(cell, feature)]
        for layer in self.layers:
            cell, feature = states[-1]
            if len(states) > 1 and self.config.residual != "none":
                kept = states[0 if self.config.residual == "initial" else -2]
                cell, feature = torch.cat([cell, kept[0]], dim=1), torch.cat([feature, kept[1]], dim=1)
            states.append(layer(graph, cell, feature))
        cells = [cell for cell, _ in states[1:]]
        if self.layer_weight is None:
            return torch.cat(cells, dim=1)
        share = torch.softmax(self.layer_weight, dim=0)  # the softmax is in the code and not in Eq 2.13
        return torch.stack([weight * cell for weight, cell in zip(share, cells, strict=True)]).sum(0)

    def forward(self, graph: CellFeatureTensors) -> Tensor:
        """Return predictions, (cells, n_targets), not clipped."""
        return self.readout(self.embed(graph))

    def _start(self, graph: CellFeatureTensors) -> Tensor:
        n_cells, config = graph.expression.shape[0], self.config
        if config.cell_init == "svd":
            cell = functional.leaky_relu(self.project(graph.expression.spmm(self.projection)))
        else:
            cell = functional.leaky_relu(self.cell.weight).expand(n_cells, -1)
        if config.batch_statistics == "none":
            return cell
        seen = graph.statistics.clamp(*self.statistics_range)
        statistics = (seen - self.statistics_mean) * self.statistics_scale
        batch = functional.dropout(self.batch(statistics), config.statistics_dropout, self.training)
        return cell + functional.leaky_relu(batch)
