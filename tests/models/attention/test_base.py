import numpy as np
import torch

from rlhf_rm.data.packing import Packing, Tree
from rlhf_rm.models.attention.base import visible
from rlhf_rm.models.attention.eager import EagerAttention
from rlhf_rm.models.attention.sdpa import SDPAAttention

# One row: a tree of prefix a b and branches c d | e, a tree of prefix f and branches g | h; then padding.
TOKENS = "abcdefgh.."


def rows():
    def tree(shared, *branches):
        return Tree(tuple(np.array(b, np.int32) for b in branches), shared, (shared,) * len(branches))

    trees = [tree(2, [1, 2, 3, 4], [1, 2, 5]), tree(1, [6, 7], [6, 8])]
    ((both, _),) = Packing("shared", 8, 99, pad_id=0, row_multiple=10).pack(trees)
    return both


def sees(**options):
    """Which tokens each token sees, as text."""
    (mask,) = visible(rows(), **options)
    return ["".join(TOKENS[k] for k in np.flatnonzero(row)) for row in mask.numpy()]


def test_a_token_sees_its_own_prefix_and_branch_up_to_itself():
    assert sees(causal=True) == ["a", "ab", "abc", "abcd", "abe", "f", "fg", "fh", ".", ".."]


def test_an_encoder_sees_its_whole_tree_and_no_other():
    assert sees(causal=False) == ["abcde"] * 5 + ["fgh"] * 3 + [".."] * 2


def test_a_window_is_counted_in_positions_and_not_in_columns():
    # e follows b in its own sequence, though c and d lie between them in the row.
    assert sees(causal=True, window=2)[:8] == ["a", "ab", "bc", "cd", "be", "f", "fg", "fh"]
    assert sees(causal=True, window=99) == sees(causal=True)


def test_both_ways_of_attention_say_the_same_in_their_own_words():
    allowed = SDPAAttention().mask(rows(), causal=True)
    added = EagerAttention().mask(rows(), causal=True)
    assert allowed.shape == added.shape == (1, 1, 10, 10)
    assert torch.equal(allowed, added == 0)
    assert (added[~allowed] == torch.finfo(torch.float32).min).all()
    assert allowed.any(-1).all()  # no softmax over nothing
