import numpy as np
import pytest
import torch

from rlhf_rm.data.packing import Packing, Tree, first_fit_decreasing, shared_prefix
from rlhf_rm.errors import UserError
from rlhf_rm.models.attention.base import visible


def made(*shapes):
    """Trees of (shared, own, own, …) tokens, every token another number."""
    trees, at = [], 100
    for shared, *own in shapes:
        prefix = list(range(at, at + shared))
        at += shared
        branches = []
        for tokens in own:
            branches.append(np.array([*prefix, *range(at, at + tokens)], np.int32))
            at += tokens
        trees.append(Tree(tuple(branches), shared, (max(0, shared - 1),) * len(own)))
    return trees


MANY = made((5, 3, 2), (9, 1, 6), (2, 4, 4), (0, 3, 1), (30, 2, 2), (4, 1, 2), (7, 7, 7))


def responses(rows):
    """Each response as tokens, read back from the rows by tree, branch and position."""
    ids, tree, branch, position = (
        t.flatten() for t in (rows.input_ids_RT, rows.tree_RT, rows.branch_RT, rows.position_ids_RT)
    )
    width = rows.input_ids_RT.shape[1]
    out = []
    for first, last in zip(rows.first_N.tolist(), rows.last_N.tolist(), strict=True):
        row = slice(first // width * width, first // width * width + width)
        mine = (tree[row] == tree[last]) & ((branch[row] == 0) | (branch[row] == branch[last]))
        order = position[row][mine]
        assert order.tolist() == list(range(len(order)))
        assert position[first] == 0
        assert position[last] == len(order) - 1
        out.append(ids[row][mine].tolist())
    return out


@pytest.mark.parametrize("layout", ["shared", "packed", "padded"])
@pytest.mark.parametrize(("row_tokens", "micro_tokens"), [(1, 1), (20, 45), (1000, 1000)])
def test_every_response_lies_whole_in_one_pass_with_the_others_of_its_prompt(
    layout, row_tokens, micro_tokens
):
    seen = []
    for rows, order in Packing(layout, row_tokens, micro_tokens, pad_id=0, row_multiple=1).pack(MANY):
        seen += order
        expected = [branch.tolist() for i in order for branch in MANY[i].branches]
        assert responses(rows) == expected
        assert rows.length_N.tolist() == [
            len(b) - p for i in order for b, p in zip(MANY[i].branches, MANY[i].prompt_tokens, strict=True)
        ]
        assert rows.tokens == sum(MANY[i].size(layout) for i in order)
        assert (rows.input_ids_RT[rows.tree_RT < 0] == 0).all()
        assert rows.one_per_row == (layout == "padded")
        if rows.input_ids_RT.shape[0] > 2:
            assert rows.input_ids_RT.numel() <= micro_tokens
    assert sorted(seen) == list(range(len(MANY)))


def test_rows_are_filled_up_and_only_a_tree_that_is_longer_gets_a_longer_row():
    widths = [
        rows.input_ids_RT.shape[1]
        for rows, _ in Packing("shared", 20, 1, pad_id=0, row_multiple=1).pack(MANY)
    ]
    assert sorted(width for width in widths if width > 20) == [21, 34]
    assert sum(widths) == sum(tree.size("shared") for tree in MANY)
    assert len(widths) < len(MANY)


def test_a_shared_prefix_is_stored_once_and_a_prompt_may_have_many_responses():
    ((rows, order),) = Packing("shared", 50, 50, pad_id=0, row_multiple=1).pack(made((4, 2, 1, 3)))
    assert order == [0]
    assert rows.input_ids_RT.tolist() == [list(range(100, 110))]
    assert rows.branch_RT.tolist() == [[0, 0, 0, 0, 1, 1, 2, 3, 3, 3]]
    assert rows.position_ids_RT.tolist() == [[0, 1, 2, 3, 4, 5, 4, 4, 5, 6]]
    assert rows.first_N.tolist() == [0, 0, 0]
    assert rows.last_N.tolist() == [5, 6, 9]


def test_large_items_come_first_and_fill_the_first_bin_with_room():
    assert first_fit_decreasing([3, 9, 5, 5, 2], capacity=10) == [[1], [2, 3], [0, 4]]
    assert first_fit_decreasing([12, 4], capacity=10) == [[0], [1]]
    assert first_fit_decreasing([], capacity=10) == []


@pytest.mark.parametrize(
    ("branches", "shared"),
    [
        ([[1, 2, 3], [1, 2, 4]], 2),
        ([[1, 2], [1, 2, 3]], 1),
        ([[1], [1]], 0),
        ([[5, 6], [6, 6]], 0),
        ([[1, 2], [1, 2]], 1),
        ([[1, 2, 3, 4], [1, 2, 3, 5], [1, 2, 4, 5]], 2),
        ([[1, 2, 3, 4], [9, 2, 3, 5], [1, 2, 4, 5]], 0),
    ],
)
def test_the_shared_prefix_leaves_each_branch_a_token(branches, shared):
    assert shared_prefix([np.array(branch, np.int32) for branch in branches]) == shared


def test_settings_are_checked():
    with pytest.raises(UserError, match="layout=tight is unknown: use one of shared, packed, padded"):
        Packing("tight", 10, 10, 0, row_multiple=1)
    with pytest.raises(UserError, match=r"loader\.row_tokens=0 must be at least 1"):
        Packing("shared", 0, 10, 0, row_multiple=1)


def test_a_batch_moves_between_devices_as_one():
    ((rows, _),) = Packing("shared", 50, 50, pad_id=0, row_multiple=1).pack(made((4, 2, 1)))
    moved = rows.to("meta")
    assert moved.input_ids_RT.device == moved.last_N.device == torch.device("meta")
    assert (moved.tokens, moved.one_per_row) == (rows.tokens, rows.one_per_row)


def test_widths_are_rounded_up_and_what_is_added_is_padding():
    trees = made((4, 2, 1), (3, 5, 6))
    ((plain, _),) = Packing("shared", 50, 50, pad_id=0, row_multiple=1).pack(trees)
    ((rows, _),) = Packing("shared", 50, 50, pad_id=0, row_multiple=16).pack(trees)
    assert (plain.input_ids_RT.shape[1], rows.input_ids_RT.shape[1]) == (21, 32)
    assert torch.equal(rows.input_ids_RT[:, :21], plain.input_ids_RT)
    assert (rows.tree_RT[:, 21:] == -1).all()
    assert responses(rows) == responses(plain)


@pytest.mark.parametrize("layout", ["shared", "packed", "padded"])
def test_the_last_query_of_a_sequence_sees_all_of_its_keys_and_the_one_before_all_but_the_last(layout):
    for rows, _ in Packing(layout, 40, 90, pad_id=0, row_multiple=8).pack(MANY):
        sees = visible(rows, causal=True).flatten(0, 1)
        width = rows.input_ids_RT.shape[1]
        found = rows.sequences
        ends_q, ends_k = found.cu_seqlens_q_S.tolist(), found.cu_seqlens_k_S.tolist()
        assert ends_q[-1] == len(sees)  # every token is a query once
        for s in range(len(ends_q) - 1):
            queries = range(ends_q[s], ends_q[s + 1])
            keys = found.key_K[ends_k[s] : ends_k[s + 1]].tolist()
            assert len(queries) <= found.max_seqlen_q
            assert len(keys) <= found.max_seqlen_k
            for back, query in enumerate(reversed(queries)):
                expected = (query // width * width + sees[query].nonzero().flatten()).tolist()
                assert keys[: len(keys) - back] == expected
