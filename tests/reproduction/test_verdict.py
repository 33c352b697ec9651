"""Verdicts from made-up numbers, and that every claim can be judged."""

import dataclasses

import pytest

from rlhf_rm.report.table import Estimate
from rlhf_rm.reproduction.claims import CLAIMS
from rlhf_rm.reproduction.verdict import FAILS, HOLDS, UNDECIDED, UNTESTED, Claim, Part, judge

ABOVE, BELOW, BETWEEN = (
    Part("x", "x", above=0.5),
    Part("x", "x", below=0.5),
    Part("x", "x", above=0.2, below=0.5),
)


@pytest.mark.parametrize(
    ("part", "low", "high", "verdict"),
    [
        (ABOVE, 0.51, 0.9, HOLDS),
        (ABOVE, 0.1, 0.49, FAILS),
        (ABOVE, 0.49, 0.51, UNDECIDED),
        (ABOVE, 0.5, 0.9, UNDECIDED),  # the bound itself is not above it
        (ABOVE, 0.1, 0.5, FAILS),
        (ABOVE, 0.5, 0.5, FAILS),  # all worlds the same
        (BELOW, 0.1, 0.49, HOLDS),
        (BELOW, 0.5, 0.9, FAILS),
        (BELOW, 0.1, 0.5, UNDECIDED),
        (BETWEEN, 0.21, 0.49, HOLDS),
        (BETWEEN, 0.1, 0.3, UNDECIDED),
        (BETWEEN, 0.1, 0.9, UNDECIDED),
        (BETWEEN, 0.6, 0.9, FAILS),
        (BETWEEN, 0.0, 0.1, FAILS),
        (ABOVE, None, None, UNDECIDED),  # a single world
    ],
)
def test_a_number_is_judged_by_its_whole_interval(part, low, high, verdict):
    assert part.verdict(Estimate(0.5, low, high, 3)) == verdict


def test_what_was_not_measured_is_not_tested():
    assert ABOVE.verdict(None) == UNTESTED
    (judged,) = judge([Claim("c", "says", "2", "1", (ABOVE,))], {"1": {"y": 1.0}, "2": {}})
    assert (judged.verdict, judged.found, judged.values) == (UNTESTED, (None,), ({},))
    (judged,) = judge([Claim("c", "says", "2", "1", untested="no GPU")], {"1": {"x": 1.0}})
    assert judged.verdict == UNTESTED


def test_the_interval_is_that_of_student_over_the_worlds():
    (judged,) = judge([Claim("c", "says", "2", "1", (ABOVE,))], {"1": {"x": 0.6}, "2": {"x": 0.8}, "3": {}})
    (found,) = judged.found
    assert found.mean == pytest.approx(0.7) and found.seeds == 2
    assert found.high - found.mean == pytest.approx(12.706 * 0.1, rel=1e-3)  # t of one degree of freedom
    assert judged.values == ({"1": 0.6, "2": 0.8},) and judged.verdict == UNDECIDED


@pytest.mark.parametrize(
    ("x", "y", "verdict"),
    [
        ((0.7, 0.71), (0.1, 0.11), HOLDS),
        ((0.7, 0.71), (0.9, 0.91), FAILS),
        ((0.1, 0.9), (0.9, 0.91), FAILS),  # one part that is refuted is enough
        ((0.1, 0.9), (0.1, 0.11), UNDECIDED),
        ((0.7, 0.71), (), UNTESTED),
        ((0.1, 0.11), (), FAILS),
    ],
)
def test_a_claim_of_two_numbers_holds_only_with_both(x, y, verdict):
    claim = Claim("c", "says", "2", "1", (ABOVE, Part("y", "y", below=0.5)))
    worlds = {str(i): {"x": x[i]} | ({"y": y[i]} if y else {}) for i in range(2)}
    assert judge([claim], worlds)[0].verdict == verdict


def test_every_claim_says_what_would_refute_it_or_why_nothing_can():
    assert len({claim.name for claim in CLAIMS}) == len(CLAIMS)
    for claim in CLAIMS:
        assert bool(claim.parts) != bool(claim.untested), claim.name
        assert all(part.above is not None or part.below is not None for part in claim.parts), claim.name
        assert all(getattr(claim, field.name) for field in dataclasses.fields(claim)[:4]), claim.name
