import itertools

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from heteromics.errors import GraphError
from heteromics.graphs import HeteroGraph
from heteromics.nn import Relation, _compressed, segment_softmax

REDUCTIONS = ("sum", "mean")
NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def random_matrix(rows=7, columns=9, density=0.3, seed=0, dtype=np.float64):
    """Random CSR with an empty row and an empty column."""
    rng = np.random.default_rng(seed)
    dense = (rng.random((rows, columns)) < density) * rng.normal(size=(rows, columns))
    dense[rows // 2] = 0
    dense[:, columns // 3] = 0
    return sp.csr_array(dense.astype(dtype))


def dense_product(matrix, h, reduce):
    """The oracle: a dense product over the mean of stored entries."""
    dense = torch.as_tensor(matrix.toarray()).to(h.dtype)  # a few dozen entries
    out = dense @ h
    if reduce == "mean":
        out = out / torch.as_tensor(np.maximum(np.diff(matrix.indptr), 1))[:, None].to(h.dtype)
    return out


@pytest.mark.parametrize("reduce", REDUCTIONS)
@pytest.mark.parametrize("width", [1, 16, 64, 65, 256])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_agrees_with_dense_product_both_ways(reduce, width, dtype):
    matrix = random_matrix(40, 50)
    relation = Relation.from_scipy(matrix)
    for this, that in ((relation, matrix), (relation.T, matrix.T.tocsr())):
        h = torch.randn(this.shape[1], width, dtype=dtype, generator=torch.Generator().manual_seed(1))
        tolerance = 1e-5 if dtype == torch.float32 else 1e-12
        torch.testing.assert_close(this.spmm(h, reduce=reduce), dense_product(that, h, reduce), rtol=0, atol=tolerance)


def test_some_edges_are_taken_in_the_order_given():
    matrix = random_matrix(30, 20)
    relation = Relation.from_scipy(matrix)
    dice = np.random.default_rng(2)
    chosen = np.concatenate(
        [dice.permutation(np.arange(*ends))[: dice.integers(0, 4)] for ends in itertools.pairwise(matrix.indptr)]
    )
    found = relation.take(torch.from_numpy(chosen))
    row = np.repeat(np.arange(30), np.diff(matrix.indptr))[chosen]
    assert found.indices.tolist() == matrix.indices[chosen].tolist()
    assert found.indptr.diff().tolist() == np.bincount(row, minlength=30).tolist()
    assert found.weight is None
    with pytest.raises(GraphError, match=r"take: 1 of 2 edges go back to a destination before\. Fix: sort chosen"):
        relation.take(torch.tensor([matrix.nnz - 1, 0]))


@pytest.mark.parametrize("reduce", REDUCTIONS)
def test_worked_by_hand(reduce):
    relation = Relation.from_csr([0, 2, 2, 3], [0, 1, 1], (3, 2), weight=[1.0, 2.0, 3.0])
    expected = {"sum": [[21.0], [0.0], [30.0]], "mean": [[10.5], [0.0], [30.0]]}[reduce]
    assert relation.spmm(torch.tensor([[1.0], [10.0]]), reduce=reduce).tolist() == expected


@pytest.mark.parametrize("reduce", REDUCTIONS)
@pytest.mark.parametrize("reverse", [False, True])
def test_gradients_of_features_and_weights(reduce, reverse):
    relation = Relation.from_scipy(random_matrix())
    relation = relation.T if reverse else relation
    h = torch.randn(relation.shape[1], 3, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(relation.nnz, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda h: relation.spmm(h, reduce=reduce), (h,))
    assert torch.autograd.gradcheck(lambda h, w: relation.spmm(h, weight=w, reduce=reduce), (h, weight))
    assert torch.autograd.gradcheck(lambda w: relation.spmm(h.detach(), weight=w, reduce=reduce), (weight,))


@pytest.mark.parametrize("reduce", REDUCTIONS)
def test_relation_of_ones(reduce):
    matrix = random_matrix()
    relation = Relation.from_csr(matrix.indptr, matrix.indices, matrix.shape)
    ones = matrix.copy()
    ones.data[:] = 1
    h = torch.randn(9, 4, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(relation.spmm(h, reduce=reduce), dense_product(ones, h, reduce))
    assert torch.autograd.gradcheck(lambda h: relation.spmm(h, reduce=reduce), (h,))


@pytest.mark.parametrize("reduce", REDUCTIONS)
@pytest.mark.parametrize("weighted", [False, True])
def test_agrees_with_dgl_operators(reduce, weighted):
    from heteromics.graphs._dgl import dgl

    matrix = random_matrix(30, 40, dtype=np.float32).tocoo()
    graph = dgl.heterograph(
        {("s", "to", "d"): (torch.as_tensor(matrix.col), torch.as_tensor(matrix.row))},
        num_nodes_dict={"s": 40, "d": 30},
    )
    h = torch.randn(40, 8, requires_grad=True)
    grad = torch.randn(30, 8)
    if weighted:
        theirs = getattr(dgl.ops, f"u_mul_e_{reduce}")(graph, h, torch.as_tensor(matrix.data))
    else:
        theirs = getattr(dgl.ops, f"copy_u_{reduce}")(graph, h)
    (their_grad,) = torch.autograd.grad(theirs, h, grad)
    csr = matrix.tocsr()
    relation = Relation.from_csr(csr.indptr, csr.indices, csr.shape, csr.data if weighted else None)
    ours = relation.spmm(h, reduce=reduce)
    (our_grad,) = torch.autograd.grad(ours, h, grad)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(our_grad, their_grad)


def test_weight_gradient_agrees_with_dgl():
    from heteromics.graphs._dgl import dgl

    matrix = random_matrix(30, 40, dtype=np.float32)
    coo = matrix.tocoo()
    graph = dgl.graph((torch.as_tensor(coo.col), torch.as_tensor(coo.row)), num_nodes=40)
    h, weight = torch.randn(40, 8), torch.randn(matrix.nnz, requires_grad=True)
    (theirs,) = torch.autograd.grad(dgl.ops.u_mul_e_sum(graph, h, weight).square().sum(), weight)
    (ours,) = torch.autograd.grad(Relation.from_scipy(matrix).spmm(h, weight=weight).square().sum(), weight)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_weight_of_the_call_overrides_the_stored_one():
    matrix = random_matrix()
    relation = Relation.from_scipy(matrix)
    h = torch.randn(9, 4, dtype=torch.float64)
    dropped = torch.nn.functional.dropout(relation.weight, 0.5)
    other = matrix.copy()
    other.data = dropped.numpy()
    torch.testing.assert_close(relation.spmm(h, weight=dropped), dense_product(other, h, "sum"))
    torch.testing.assert_close(relation.spmm(h), dense_product(matrix, h, "sum"))


def test_transposed_weights_follow_the_edges():
    relation = Relation.from_scipy(random_matrix())
    there_and_back = relation.T.T
    assert torch.equal(there_and_back.weight, relation.weight)
    assert there_and_back.indices.data_ptr() == relation.indices.data_ptr()
    h = torch.randn(7, 2, dtype=torch.float64, requires_grad=True)
    (relation.T.spmm(h, weight=relation.T.weight) - relation.T.spmm(h)).sum().backward()
    assert h.grad.abs().max() == 0


@pytest.mark.parametrize("reverse", [False, True])
def test_sampled_product_agrees_with_dense_product(reverse):
    matrix = random_matrix(30, 40)
    relation = Relation.from_scipy(matrix)
    relation, matrix = (relation.T, matrix.T.tocsr()) if reverse else (relation, matrix)
    left, right = (torch.randn(size, 5, dtype=torch.float64, requires_grad=True) for size in relation.shape)
    row, column = matrix.nonzero()
    torch.testing.assert_close(relation.sddmm(left, right), (left @ right.T)[row, column])
    assert torch.autograd.gradcheck(relation.sddmm, (left, right))
    assert torch.autograd.gradcheck(lambda right: relation.sddmm(left.detach(), right), (right,))
    half = relation.sddmm(left.bfloat16(), right.bfloat16())
    assert half.dtype == torch.bfloat16
    assert torch.equal(half, relation.sddmm(left.bfloat16().float(), right.bfloat16().float()).bfloat16())


@pytest.mark.parametrize("width", [3, 100])
def test_expanded_tensors_are_read_right(width):
    """A gradient that comes from a sum is expanded, stride 0; the kernels need it spread out."""
    relation = Relation.from_scipy(random_matrix())
    h, left = (torch.randn(n, width, dtype=torch.float64, requires_grad=True) for n in (9, 7))
    two = torch.full((), 2.0, dtype=torch.float64).expand(relation.nnz)
    torch.testing.assert_close(relation.spmm(h, weight=two), relation.spmm(h, weight=two.clone()))
    relation.sddmm(left, h).sum().backward()
    ones = Relation.from_csr(relation.indptr, relation.indices, relation.shape)
    torch.testing.assert_close(left.grad, ones.spmm(h.detach()))
    torch.testing.assert_close(h.grad, ones.T.spmm(left.detach()))
    columns = torch.randn(width, 9, dtype=torch.float64)
    torch.testing.assert_close(ones.spmm(columns.T), ones.spmm(columns.T.contiguous()))


def test_values_for_the_reversed_relation():
    relation = Relation.from_scipy(random_matrix())
    assert torch.equal(relation.reverse_values(relation.weight), relation.T.weight)
    assert torch.equal(relation.T.reverse_values(relation.T.weight), relation.weight)
    weight = torch.randn(relation.nnz, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(relation.reverse_values, (weight,))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("width", [8, 128])
def test_half_types_are_summed_in_float32_and_rounded_once(dtype, width):
    relation = Relation.from_scipy(random_matrix(40, 50, dtype=np.float32))
    h = torch.randn(50, width).to(dtype).requires_grad_()
    exact = h.detach().float().requires_grad_()
    weight = relation.weight.to(dtype).requires_grad_()
    exact_weight = weight.detach().float().requires_grad_()
    out, expected = relation.spmm(h, weight=weight), relation.spmm(exact, weight=exact_weight)
    assert out.dtype == dtype
    assert torch.equal(out, expected.to(dtype))
    out.sum().backward()
    expected.sum().backward()
    assert h.grad.dtype == weight.grad.dtype == dtype
    assert torch.equal(h.grad, exact.grad.to(dtype))
    assert torch.equal(weight.grad, exact_weight.grad.to(dtype))


@pytest.mark.parametrize("reverse", [False, True])
def test_sampled_product_agrees_with_dgl(reverse):
    from heteromics.graphs._dgl import dgl

    matrix = random_matrix(30, 40, dtype=np.float32)
    relation = Relation.from_scipy(matrix)
    relation, matrix = (relation.T, matrix.T.tocsr()) if reverse else (relation, matrix)
    coo = matrix.tocoo()
    edges = {("s", "to", "d"): (torch.as_tensor(coo.col), torch.as_tensor(coo.row))}
    graph = dgl.heterograph(edges, num_nodes_dict={"s": matrix.shape[1], "d": matrix.shape[0]})
    left, right = (torch.randn(size, 8, requires_grad=True) for size in relation.shape)
    ours, theirs = relation.sddmm(left, right), dgl.ops.u_dot_v(graph, right, left)[:, 0]
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    grads = [torch.autograd.grad(out.square().sum(), (left, right)) for out in (ours, theirs)]
    torch.testing.assert_close(*grads, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("heads", [1, 3])
def test_kernels_compose_to_dgl_graph_attention(heads):
    """GAT (Velickovic et al., 2018): the sum of two scores of nodes is a sampled product of width 2."""
    from heteromics.graphs._dgl import dgl

    dense = random_matrix(30, 40, dtype=np.float32).toarray()
    dense[15] = 1  # DGL's layer refuses nodes without neighbours
    matrix = sp.csr_array(dense)
    coo = matrix.tocoo()
    edges = {("s", "to", "d"): (torch.as_tensor(coo.col), torch.as_tensor(coo.row))}
    graph = dgl.heterograph(edges, num_nodes_dict={"s": 40, "d": 30})
    torch.manual_seed(0)
    layer = dgl.nn.GATConv((6, 5), 4, heads)
    source, target = torch.randn(40, 6, requires_grad=True), torch.randn(30, 5, requires_grad=True)
    theirs = layer(graph, (source, target))
    relation = Relation.from_csr(matrix.indptr, matrix.indices, matrix.shape)
    sent, asked = layer.fc_src(source).view(40, heads, 4), layer.fc_dst(target).view(30, heads, 4)
    from_source, at_target = (sent * layer.attn_l).sum(2), (asked * layer.attn_r).sum(2)
    out = []
    for head in range(heads):
        left = torch.stack([at_target[:, head], torch.ones(30)], 1)
        right = torch.stack([torch.ones(40), from_source[:, head]], 1)
        logit = torch.nn.functional.leaky_relu(relation.sddmm(left, right), 0.2)
        weight = segment_softmax(logit, relation.indptr)
        out.append(relation.spmm(sent[:, head], weight=weight) + layer.bias.view(heads, 4)[head])
    ours = torch.stack(out, 1)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    leaves = (source, target, *layer.parameters())
    grads = [torch.autograd.grad(o.square().sum(), leaves, retain_graph=True) for o in (ours, theirs)]
    torch.testing.assert_close(*grads, rtol=1e-4, atol=1e-4)


DEVICES = ["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, NO_GPU])]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_a_layer_under_autocast_sums_bfloat16_in_float32(device, dropout):
    relation = Relation.from_scipy(random_matrix(40, 50, dtype=np.float32)).to(device)
    layer = torch.nn.Linear(6, 4, device=device)
    source = torch.randn(50, 6, device=device)
    with torch.autocast(device, torch.bfloat16):
        message = layer(source)
        out = relation.spmm(message, dropout=dropout, seed=3)
        score = relation.sddmm(out, message)
        weight = segment_softmax(score, relation.indptr)
        (relation.spmm(message, weight=weight).float().square().sum() + out.float().sum()).backward()
    assert message.dtype == out.dtype == score.dtype == weight.dtype == torch.bfloat16
    assert layer.weight.grad.dtype == torch.float32
    wide = message.detach().float()
    rounding = {
        "rtol": 0 if device == "cpu" else 2**-7,
        "atol": 0 if device == "cpu" else 1e-6,
    }  # any order
    torch.testing.assert_close(out, relation.spmm(wide, dropout=dropout, seed=3).bfloat16(), **rounding)
    torch.testing.assert_close(score, relation.sddmm(out.detach().float(), wide).bfloat16(), **rounding)
    found = layer.weight.grad.clone()
    layer.zero_grad()
    message = layer(source)
    out = relation.spmm(message, dropout=dropout, seed=3)
    weight = segment_softmax(relation.sddmm(out, message), relation.indptr)
    (relation.spmm(message, weight=weight).square().sum() + out.sum()).backward()
    assert float((found - layer.weight.grad).norm() / layer.weight.grad.norm()) < 0.05  # bfloat16 keeps 8 bits


@pytest.mark.parametrize("gathered", [1, 7, 64, 1 << 24])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("reverse", [False, True])
def test_sum_in_fixed_order_agrees_with_the_kernels(gathered, dtype, reverse, monkeypatch):
    monkeypatch.setattr(_compressed, "_MOST_GATHERED", gathered)
    relation = Relation.from_scipy(random_matrix(40, 50, density=0.5))
    relation = (relation.T if reverse else relation).to(dtype=dtype)
    h = torch.randn(relation.shape[1], 5, dtype=dtype)
    found = _compressed.multiply_in_order(relation._by_dst, relation.weight, h)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-12
    torch.testing.assert_close(found, relation.spmm(h), rtol=tolerance, atol=tolerance)


def test_sum_in_fixed_order_of_long_empty_and_single_rows(monkeypatch):
    monkeypatch.setattr(_compressed, "_MOST_GATHERED", 4)
    relation = Relation.from_csr([0, 0, 11, 11, 12, 12], [*range(11), 3], (5, 11), weight=torch.arange(12.0))
    found = _compressed.multiply_in_order(relation._by_dst, relation.weight, torch.arange(11.0)[:, None])
    assert found.flatten().tolist() == [0, sum(i * i for i in range(11)), 0, 33, 0]


def test_deterministic_mode_takes_the_fixed_order_off_the_cpu(monkeypatch):
    """The choice, seen through a device that only knows shapes."""
    relation = Relation.from_scipy(random_matrix(dtype=np.float32)).to("meta")
    taken = []
    monkeypatch.setattr(_compressed, "multiply_in_order", lambda side, values, h: taken.append(h.shape) or h[:7])
    torch.use_deterministic_algorithms(True)
    try:
        relation.spmm(torch.randn(9, 4, device="meta"))
    finally:
        torch.use_deterministic_algorithms(False)
    assert taken == [(9, 4)]


@pytest.mark.parametrize("width", [63, 64, 65, 200])
def test_cut_into_columns_or_whole_gives_the_same(width, monkeypatch):
    relation = Relation.from_scipy(random_matrix(60, 50, density=0.9))
    h = torch.randn(50, width, dtype=torch.float64, requires_grad=True)
    grad = torch.randn(60, width, dtype=torch.float64)
    results = []
    for often in (0, 1 << 30):
        monkeypatch.setattr(_compressed, "_OFTEN", often)
        out = relation.spmm(h)
        results.append([out, *torch.autograd.grad(out, h, grad)])
    torch.testing.assert_close(*results, rtol=1e-12, atol=1e-12)


def test_runs_as_written_inside_autocast():
    relation = Relation.from_scipy(random_matrix(dtype=np.float32))
    h, weight = torch.randn(9, 4, requires_grad=True), relation.weight.clone().requires_grad_()
    expected = relation.spmm(h, weight=weight)
    with torch.autocast("cpu", torch.bfloat16):
        out = relation.spmm(h, weight=weight)
        out.sum().backward()
    assert torch.equal(out, expected)
    assert h.grad.dtype == weight.grad.dtype == torch.float32


def test_permuting_nodes_permutes_the_output():
    matrix = random_matrix(40, 50)
    rng = np.random.default_rng(3)
    rows, columns = rng.permutation(40), rng.permutation(50)
    h = torch.randn(50, 5, dtype=torch.float64)
    out = Relation.from_scipy(matrix).spmm(h)
    permuted = Relation.from_scipy(matrix[rows][:, columns]).spmm(h[columns])
    torch.testing.assert_close(permuted, out[rows])


def test_two_libraries_together_equal_two_apart():
    one, two = random_matrix(seed=1), random_matrix(seed=2)
    h = torch.randn(18, 3, dtype=torch.float64)
    both = Relation.from_scipy(sp.block_diag([one, two])).spmm(h)
    apart = [Relation.from_scipy(m).spmm(part) for m, part in zip((one, two), h.split(9), strict=True)]
    torch.testing.assert_close(both, torch.cat(apart))


def test_same_bits_every_time():
    relation = Relation.from_scipy(random_matrix(300, 400, dtype=np.float32))
    h = torch.randn(400, 64)
    assert all(torch.equal(relation.spmm(h), relation.spmm(h)) for _ in range(5))


def test_parallel_edges_add_up_and_count_in_the_mean():
    relation = Relation.from_csr([0, 3], [1, 1, 0], (1, 2), weight=[1.0, 2.0, 4.0])
    h = torch.tensor([[1.0], [10.0]])
    assert relation.spmm(h).item() == 34
    assert relation.spmm(h, reduce="mean").item() == pytest.approx(34 / 3)
    assert relation.T.spmm(torch.ones(1, 1)).flatten().tolist() == [4, 3]


@pytest.mark.parametrize("reduce", REDUCTIONS)
@pytest.mark.parametrize(("shape", "width"), [((3, 4), 2), ((0, 4), 2), ((3, 0), 2), ((3, 4), 0)])
def test_no_edges_give_zeros_and_zero_gradients(reduce, shape, width):
    relation = Relation.from_csr(np.zeros(shape[0] + 1, dtype=np.int64), np.zeros(0, dtype=np.int64), shape)
    h = torch.randn(shape[1], width, requires_grad=True)
    weight = torch.zeros(0, requires_grad=True)
    out = relation.spmm(h, weight=weight, reduce=reduce)
    assert out.shape == (shape[0], width)
    assert not out.any()
    out.sum().backward()
    assert not h.grad.any()
    assert weight.grad.shape == (0,)
    assert relation.sddmm(torch.ones(shape[0], width), h).shape == (0,)


def test_single_row():
    relation = Relation.from_scipy(sp.csr_array([[0.0, 2.0, 3.0]]))
    assert relation.spmm(torch.tensor([[1.0], [10.0], [100.0]], dtype=torch.float64)).tolist() == [[320.0]]


def test_indices_are_int32_and_float_types_are_kept():
    matrix = random_matrix()
    relation = Relation.from_csr(matrix.indptr.astype(np.int64), torch.as_tensor(matrix.indices).long(), matrix.shape)
    assert relation.indices.dtype == relation.indptr.dtype == relation.T.indices.dtype == torch.int32
    assert relation.weight is None
    assert Relation.from_scipy(matrix).weight.dtype == torch.float64
    assert Relation.from_scipy(matrix.astype(np.float32)).weight.dtype == torch.float32
    assert Relation.from_scipy(matrix.astype(np.int64)).weight.dtype == torch.float32


def test_shares_memory_and_copies_read_only_arrays():
    matrix = random_matrix()
    assert Relation.from_scipy(matrix).weight.data_ptr() == matrix.data.ctypes.data
    matrix.data.setflags(write=False)
    assert Relation.from_scipy(matrix).weight.tolist() == matrix.data.tolist()


def test_stored_weight_is_constant():
    weight = torch.ones(2, requires_grad=True)
    assert not Relation.from_csr([0, 2], [0, 1], (1, 2), weight=weight).weight.requires_grad


def test_to_casts_weights_in_both_directions():
    relation = Relation.from_scipy(random_matrix(dtype=np.float32))
    assert relation.to("cpu") is relation
    assert relation.to(dtype=torch.float32) is relation
    doubled = relation.to(dtype=torch.float64)
    assert doubled.weight.dtype == doubled.T.weight.dtype == torch.float64
    assert doubled.indices.data_ptr() == relation.indices.data_ptr()


def test_second_derivative_is_refused():
    relation = Relation.from_scipy(random_matrix())
    h = torch.randn(9, 2, dtype=torch.float64, requires_grad=True)
    (grad,) = torch.autograd.grad(relation.spmm(h).square().sum(), h, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


EXPRESSES, EXPRESSED_BY = ("cell", "expresses", "feature"), ("feature", "expressed_by", "cell")


def expression_graph(cell, feature, sizes, **data):
    return HeteroGraph.from_edges(
        {EXPRESSES: (cell, feature)},
        names={ntype: [f"{ntype}{i}" for i in range(n)] for ntype, n in zip(("cell", "feature"), sizes, strict=True)},
        edata={EXPRESSES: {name: torch.as_tensor(values) for name, values in data.items()}},
        reverse={EXPRESSED_BY: EXPRESSES},
    )


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("etype", [EXPRESSES, EXPRESSED_BY])
def test_from_graph_reads_both_compressed_forms(weighted, etype):
    rng = np.random.default_rng(5)
    flat = rng.permutation(30 * 20)[:90]
    cell, feature, weight = flat // 20, flat % 20, rng.normal(size=90)
    relation = Relation.from_graph(
        expression_graph(cell, feature, (30, 20), weight=weight), etype, weight="weight" if weighted else None
    )
    matrix = sp.csr_array((weight if weighted else np.ones(90), (feature, cell)), shape=(20, 30))
    matrix = matrix if etype == EXPRESSES else matrix.T.tocsr()
    assert relation.shape == matrix.shape
    h, back = (torch.randn(n, 2, dtype=torch.float64, requires_grad=True) for n in matrix.shape[::-1])
    override = torch.randn(90, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(relation.spmm(h), dense_product(matrix, h, "sum"))
    assert torch.autograd.gradcheck(relation.spmm, (h,))
    assert torch.autograd.gradcheck(lambda h, w: relation.spmm(h, weight=w), (h, override))
    assert torch.autograd.gradcheck(lambda h, w: relation.T.spmm(h, weight=w), (back, override))


def test_from_graph_shares_what_stands_in_order():
    graph = expression_graph([0, 0, 1], [0, 1, 1], (2, 2), weight=torch.randn(3))
    there, back = Relation.from_graph(graph, EXPRESSES), Relation.from_graph(graph, EXPRESSED_BY)
    shared = graph.edata(EXPRESSES)["weight"].data_ptr()
    assert there.T.weight.data_ptr() == back.weight.data_ptr() == shared
    assert there.T.indices.data_ptr() == back.indices.data_ptr()


def test_from_graph_names_what_is_missing():
    graph = expression_graph([0], [1], (2, 2), weight=torch.ones(1))
    with pytest.raises(GraphError, match="opens"):
        Relation.from_graph(graph, ("cell", "opens", "peak"))
    with pytest.raises(GraphError, match="no data called 'score'; they have: weight"):
        Relation.from_graph(graph, EXPRESSES, weight="score")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"indptr": [0, 1], "indices": [0], "shape": (2, 2)}, "indptr has 2 entries; 2 rows need 3"),
        ({"indptr": [0, 1], "indices": [0.7], "shape": (1, 1)}, "type torch.float32; expected signed integers"),
        (
            {"indptr": np.array([0, 1], np.uint32), "indices": [0], "shape": (1, 1)},
            r"indptr has shape \(2,\) and type torch.uint32; expected signed integers",
        ),
        ({"indptr": [0, 1], "indices": [[0]], "shape": (1, 1)}, r"indices has shape \(1, 1\)"),
        (
            {"indptr": [0, 2, 1], "indices": [0], "shape": (2, 2)},
            "to the number of edges, 1; .* from 0 to 1 with 1 falls",
        ),
        ({"indptr": [0, 1, 1], "indices": [0, 1], "shape": (2, 2)}, "to the number of edges, 2; it goes from 0 to 1"),
        (
            {"indptr": [0, 1, 2], "indices": [0, 2], "shape": (2, 2)},
            r"1 of 2 indices lie outside \[0, 2\).*: found 0 to 2",
        ),
        ({"indptr": [0, 1, 2], "indices": [-1, 1], "shape": (2, 2)}, r"1 of 2 indices lie outside .* found -1 to 1"),
        (
            {"indptr": [0, 1], "indices": [0], "shape": (1, 2), "weight": [[1.0]]},
            r"shape \(1, 1\); each of the 1 edges",
        ),
    ],
)
def test_arrays_that_are_no_matrix(arguments, message):
    with pytest.raises(GraphError, match=message):
        Relation.from_csr(**arguments)


def test_bad_calls():
    relation = Relation.from_scipy(random_matrix())
    h = torch.randn(9, 2, dtype=torch.float64)
    with pytest.raises(GraphError, match=r"h has shape \(7, 2\).*9 sources and 7 destinations[^!]*Fix: use relation.T"):
        relation.spmm(torch.randn(7, 2))
    with pytest.raises(GraphError, match=r"h has shape \(9,\)"):
        relation.spmm(h[:, 0])
    with pytest.raises(GraphError, match=r"type torch.int64"):
        relation.spmm(torch.ones(9, 2, dtype=torch.int64))
    with pytest.raises(GraphError, match=r"weight has shape \(3,\); each of the"):
        relation.spmm(h, weight=torch.ones(3))
    with pytest.raises(GraphError, match=r"left has shape \(7, 2\) and right \(7, 2\); .* needs \(7, D\) and \(9, D\)"):
        relation.sddmm(torch.ones(7, 2), torch.ones(7, 2))
    with pytest.raises(GraphError, match="reduce is 'max'; known are 'sum' and 'mean'"):
        relation.spmm(h, reduce="max")
    with pytest.raises(GraphError, match="found ndarray, expected a SciPy sparse matrix"):
        Relation.from_scipy(np.eye(3))
    with pytest.raises(GraphError, match="left and right are torch.int64 and torch.int64; expected floating"):
        relation.sddmm(torch.ones(7, 2, dtype=torch.int64), torch.ones(9, 2, dtype=torch.int64))
    with pytest.raises(GraphError, match="sddmm: right is on meta, the relation on cpu"):
        relation.sddmm(torch.ones(7, 2), torch.ones(9, 2, device="meta"))
    for wrong in (relation.nnz - 1, relation.nnz + 1):
        with pytest.raises(GraphError, match=rf"reverse_values: found shape \({wrong},\); each of the"):
            relation.reverse_values(torch.ones(wrong))
    with pytest.raises(GraphError, match=r"h is on meta, the relation on cpu.\n.*relation.to\('meta'\)"):
        relation.spmm(h.to("meta"))


@pytest.mark.gpu
@NO_GPU
@pytest.mark.parametrize("reduce", REDUCTIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_cuda_agrees_with_cpu(reduce, dtype):
    host = Relation.from_scipy(random_matrix(200, 300, dtype=np.float32))
    device = host.to("cuda")
    built_there = Relation.from_csr(device.indptr, device.indices, device.shape, device.weight)
    assert torch.equal(built_there.T.indices, device.T.indices)
    h = torch.randn(300, 32).to(dtype)
    weight = host.weight.clone()
    results = []
    for relation in (host, device, built_there):
        inputs = [tensor.to(relation.device).detach().requires_grad_() for tensor in (h, weight)]
        out = relation.spmm(inputs[0], weight=inputs[1], reduce=reduce)
        grads = torch.autograd.grad(out.float().square().sum(), inputs)
        results.append([tensor.cpu().float() for tensor in (out, *grads)])
    for other in results[1:]:
        torch.testing.assert_close(other, results[0], rtol=1e-2 if dtype == torch.bfloat16 else 1e-4, atol=1e-3)


@pytest.mark.gpu
@NO_GPU
@pytest.mark.parametrize("width", [8, 200])
def test_cuda_gives_the_same_bits_in_deterministic_mode(width):
    relation = Relation.from_scipy(random_matrix(2_000, 300, dtype=np.float32)).to("cuda")
    h, weight = torch.randn(300, width, device="cuda"), relation.weight.clone()
    torch.use_deterministic_algorithms(True)
    try:
        runs = []
        for _ in range(5):
            inputs = [tensor.detach().requires_grad_() for tensor in (h, weight)]
            out = relation.spmm(inputs[0], weight=inputs[1], dropout=0.3, seed=1)
            scores = relation.sddmm(out, inputs[0])
            runs.append([out, scores, *torch.autograd.grad(scores.square().sum(), inputs)])
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(torch.equal(a, b) for run in runs[1:] for a, b in zip(runs[0], run, strict=True))
    host = relation.to("cpu").spmm(h.cpu(), weight=weight.cpu(), dropout=0.3, seed=1)
    torch.testing.assert_close(runs[0][0].detach().cpu(), host, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("turned", [False, True])
def test_the_graph_holds_no_more_than_before(turned):
    etype = ("s", "to", "d")
    graph = HeteroGraph.from_edges(
        {etype: ([0, 1, 1], [1, 0, 1])},
        names={"s": ["a", "b"], "d": ["x", "y"]},
        edata={etype: {"weight": torch.tensor([1.0, 2.0, 3.0])}},
        reverse={("d", "of", "s"): etype},
    )
    before = graph.card.bytes["structure"]
    relation = Relation.from_graph(graph, ("d", "of", "s") if turned else etype)
    assert graph.card.bytes["structure"] == before
    dense = torch.tensor([[0.0, 2.0], [1.0, 3.0]])  # destinations d, sources s
    torch.testing.assert_close(relation.spmm(torch.eye(2)), dense.T if turned else dense)
    torch.testing.assert_close(relation.T.spmm(torch.eye(2)), dense if turned else dense.T)
