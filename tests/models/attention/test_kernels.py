"""What is believed of a kernel: the corner at which it aligns is measured and not assumed."""

import pytest
import torch

from rlhf_rm.errors import UserError
from rlhf_rm.models.attention import kernels
from rlhf_rm.models.attention.kernels import TorchVarlen, check_alignment, dense_varlen, installed_kernels
from tests.models.attention.test_flash import Dense

CPU = torch.device("cpu")


class TopLeft(Dense):
    """As flash-attn before 2.1: the first query of a sequence sees its first key alone."""

    name = "old"

    def __call__(self, query, key, value, sequences, *, scale, causal, window):
        if not causal or window:
            return dense_varlen(query, key, value, sequences, scale=scale, causal=causal, window=window)
        starts_q, starts_k = sequences.cu_seqlens_q_S.tolist(), sequences.cu_seqlens_k_S.tolist()
        found = []
        for s in range(len(starts_q) - 1):
            q, (k, v) = (
                query[starts_q[s] : starts_q[s + 1]],
                (x[starts_k[s] : starts_k[s + 1]] for x in (key, value)),
            )
            group = q.shape[1] // k.shape[1]
            q, k, v = (
                x.float().transpose(0, 1)
                for x in (q, k.repeat_interleave(group, 1), v.repeat_interleave(group, 1))
            )
            # PyTorch's own is_causal is of this kind.
            read = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale)
            found.append(read.transpose(0, 1))
        return torch.cat(found).to(query.dtype)


def test_attention_aligned_at_the_other_corner_is_refused():
    check_alignment(Dense(), CPU, torch.bfloat16)
    with pytest.raises(
        UserError, match=r"the attention of old on cpu differs by .* \(causal=True, window=None"
    ):
        check_alignment(TopLeft(), CPU, torch.bfloat16)


def test_a_kernel_that_counts_windows_differently_is_refused():
    class OneMore(Dense):
        def __call__(self, *given, window, **options):
            return dense_varlen(*given, window=window and window + 1, **options)

    with pytest.raises(UserError, match=r"causal=True, window=3"):
        check_alignment(OneMore(), CPU, torch.bfloat16)


def test_flash_attn_is_taken_before_pytorchs_own(monkeypatch, tmp_path):
    assert [kernel.name for kernel in installed_kernels()] == [TorchVarlen.name]
    (tmp_path / "flash_attn.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    assert [kernel.name for kernel in installed_kernels()] == ["flash-attn 2", TorchVarlen.name]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("kernel", [k for k in kernels.KERNELS if k.is_installed()], ids=lambda k: k.name)
def test_installed_kernels_on_this_gpu(kernel, dtype):
    check_alignment(kernel, torch.device("cuda"), dtype)
