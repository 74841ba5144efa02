"""The paper's baselines on the graphs of Bi2Former: MLP, GCNII, GraphSAGE and a graph transformer.

They get the nodes Bi2Former gets (ID, value, chromosome, attributes), projected per kind of node. Where Bi2Former
prunes, they pass messages over all edges of the bipartite graph, every gene and peak that may meet; the graph is one
graph with two kinds of nodes, so that a layer is exactly that of the method's paper. The readout is that published for
Bi2Former, mean over genes and mean over peaks; the classifier is that of ``Bi2FormerConfig.for_matching()``, or with
``as_published()`` that of the public code, two hidden layers.

Within a chromosome each gene meets each peak. Sums over such edges are sums over the other side of the block, so that
GCNII and GraphSAGE cost what their nodes cost; attention runs inside blocks. Only a window forms single edges.
"""

from __future__ import annotations

from heteromics.models._pair_baseline_config import (
    PairGCNIIConfig,
    PairMLPConfig,
    PairSAGEConfig,
    PairTransformerConfig,
)
from heteromics.models._pair_baseline_networks import GCNIINetwork, MLPNetwork, SAGENetwork, TransformerNetwork
from heteromics.models._pair_model import PairModel
from heteromics.models._pair_nodes import FeatureTable

__all__ = [
    "PairGCNII",
    "PairGCNIIConfig",
    "PairMLP",
    "PairMLPConfig",
    "PairSAGE",
    "PairSAGEConfig",
    "PairTransformer",
    "PairTransformerConfig",
]


class PairMLP(PairModel):
    """Match profiles without edges: every gene and peak passes through linear layers with ReLU, then the readout.

    Whatever it finds, it finds without knowing which gene could meet which peak. Parameters, attributes and errors:
    :class:`~heteromics.models._pair_model.PairModel`, with a :class:`PairMLPConfig`.
    """

    config_type = PairMLPConfig
    config: PairMLPConfig

    def _network_of(self, genes: FeatureTable, peaks: FeatureTable) -> MLPNetwork:
        return MLPNetwork(self.config, genes, peaks)


class PairGCNII(PairModel):
    """Match profiles by GCNII over all gene-peak edges.

    Chen, M. et al. "Simple and Deep Graph Convolutional Networks", ICML 2020, arXiv:2007.02133, equation 5:
    h' = relu(((1 - alpha) P h + alpha h0) ((1 - beta_l) I + beta_l W_l)), with P = D^-1/2 (A + I) D^-1/2, D the degrees
    of A + I, h0 = relu(W x) and beta_l = log(lambda / l + 1). Layers agree with ``torch_geometric.nn.GCN2Conv``.
    Dropout is in the classifier alone: single nodes vanish in means over thousands.

    Parameters, attributes and errors: :class:`~heteromics.models._pair_model.PairModel`, with a
    :class:`PairGCNIIConfig`.
    """

    config_type = PairGCNIIConfig
    config: PairGCNIIConfig

    def _network_of(self, genes: FeatureTable, peaks: FeatureTable) -> GCNIINetwork:
        return GCNIINetwork(self.config, genes, peaks)


class PairSAGE(PairModel):
    """Match profiles by GraphSAGE, mean aggregator, over all gene-peak edges.

    Hamilton, W. L. et al. "Inductive Representation Learning on Large Graphs", NeurIPS 2017, arXiv:1706.02216,
    algorithm 1: h' = relu(W [h, mean of the neighbours' h]), divided by its length. All neighbours are averaged, none
    sampled. Layers agree with ``torch_geometric.nn.SAGEConv``.

    Parameters, attributes and errors: :class:`~heteromics.models._pair_model.PairModel`, with a
    :class:`PairSAGEConfig`.
    """

    config_type = PairSAGEConfig
    config: PairSAGEConfig

    def _network_of(self, genes: FeatureTable, peaks: FeatureTable) -> SAGENetwork:
        return SAGENetwork(self.config, genes, peaks)


class PairTransformer(PairModel):
    """Match profiles by a graph transformer (GT): softmax attention of every node over all its neighbours.

    Dwivedi, V. P. and Bresson, X. "A Generalization of Transformer Networks to Graphs", 2020, arXiv:2012.09699, the
    graph transformer layer without edge features: h' = norm(h + O a), h'' = norm(h' + W2 relu(W1 h')), where a are the
    heads side by side, each the sum over neighbours j of softmax_j(Q h . K h_j / sqrt(d)) V h_j. Norm is layer norm,
    one of the two in the paper: it treats each node by itself, so that pairs of a batch do not mix. Laplacian
    positions are left out: nodes of a complete block have none that would tell them apart. Its attention agrees with
    ``torch_geometric.nn.TransformerConv``.

    Parameters, attributes and errors: :class:`~heteromics.models._pair_model.PairModel`, with a
    :class:`PairTransformerConfig`.
    """

    config_type = PairTransformerConfig
    config: PairTransformerConfig

    def _network_of(self, genes: FeatureTable, peaks: FeatureTable) -> TransformerNetwork:
        return TransformerNetwork(self.config, genes, peaks)
