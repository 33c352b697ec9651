"""The page on what holds: its counts, its table, and the same as JSON."""

import json
from dataclasses import replace
from pathlib import Path

from rlhf_rm.reproduction import claims
from rlhf_rm.reproduction.page import HOW, Making, as_json, page, shown
from rlhf_rm.reproduction.verdict import Claim, Part, judge

CLAIMS = [
    Claim("a", "More is | better.", "2", "about 0.7", (Part("x", "accuracy", above=0.5),)),
    Claim("b", "Less falls.", "3", "0.1", (Part("y", "lost", above=-0.02, below=0.3),)),
    Claim("c", "Nothing is seen.", "3", "a figure", (Part("z", "gain", above=0.0),)),
    Claim("d", "GPT-4 agrees.", "4", "0.9", untested="needs GPT-4"),
]
WORLDS = {"11": {"x": 0.7, "y": -0.5}, "12": {"x": 0.71, "y": -0.51}}
MAKING = Making(
    "rlhf-rm paper size=small",
    "0.1.0",
    "small",
    [11, 12],
    {"vote": 1200.4, "plain": 34},
    {"pairs": 40, "slices": [1, 3], "noisy": {"data.flip_rate": 0.2, "ppo.limits.kl": None}},
    "2026-11-25",
)


def test_the_page_says_of_each_claim_what_the_paper_has_what_is_here_and_the_verdict():
    text = page(judge(CLAIMS, WORLDS), MAKING)
    assert "**4 claims: 1 holds, 1 does not hold, 0 not decided, 2 not tested.**" in text
    lines = text.splitlines()
    (first,) = [line for line in lines if line.startswith("| More")]
    assert first == (
        "| More is \\| better. | 2 | about 0.7 | accuracy: 0.705 (0.641 to 0.769) | **holds** | above 0.5 |"
    )
    (second,) = [line for line in lines if line.startswith("| Less")]
    assert "lost: −0.505 (−0.569 to −0.441) | **does not hold** | between −0.02 and 0.3 |" in second
    assert "| Nothing is seen. | 3 | a figure | this size does not measure it |" in lines
    assert (
        sum(line.startswith(("| Nothing", "| GPT-4")) for line in lines) == 2
    )  # only where they are not tested
    assert "| GPT-4 agrees. | 4 | 0.9 | needs GPT-4 |" in lines
    assert "```bash\nrlhf-rm paper size=small\n```" in text
    assert "2026-11-25, version 0.1.0, size small, worlds 11, 12: 1,234 seconds" in text
    assert "| vote | 1,200 |" in lines and "| pairs | `40` |" in lines
    assert "| slices | `[1,3]` |" in lines
    assert "| noisy | `data.flip_rate=0.2 ppo.limits.kl=null` |" in lines
    assert "With 2 worlds an interval reaches 9.0 times the standard deviation" in text
    widths = {line.replace("\\|", "").count("|") for line in lines if line.startswith("| More")}
    assert widths == {7}


def test_the_page_in_the_documentation_is_of_these_claims():
    text = (Path(__file__).parents[2] / "docs" / "results.md").read_text(encoding="utf-8")
    assert HOW in text
    for claim in claims.CLAIMS:
        (row,) = [line for line in text.splitlines() if line.startswith(f"| {claim.says} |")]
        if not row.endswith(f"| {claim.untested or 'this size does not measure it'} |"):
            assert all(f"{part.label}: " in row for part in claim.parts), row


def test_links_lead_from_where_the_page_lies_and_are_text_where_there_is_no_way():
    judged = judge(CLAIMS, WORLDS)
    assert "in the synthetic world, where" in page(judged, MAKING)
    there = page(judged, replace(MAKING, docs="../../docs"))
    assert "in [the synthetic world](../../docs/synthetic_world.md), where" in there
    assert "(../../docs/reproduction.md)" in there


def test_a_number_that_a_world_lacks_is_told_with_how_many_have_it():
    text = page(judge(CLAIMS, WORLDS | {"13": {"x": 0.72}}), replace(MAKING, worlds=[11, 12, 13]))
    assert "lost: −0.505 (−0.569 to −0.441), 2 of 3 worlds |" in text
    assert "accuracy: 0.710 (0.685 to 0.735) |" in text


def test_a_number_of_one_world_has_no_interval():
    judged = judge(CLAIMS, {"11": WORLDS["11"]})
    assert shown(judged[0].found[0]) == "0.700 (one world, no interval)"
    assert shown(None) == "not measured"
    text = page(judged, replace(MAKING, worlds=[11]))
    assert "**4 claims: 0 holds, 0 does not hold, 2 not decided, 2 not tested.**" in text
    assert "an interval reaches" not in text


def test_the_same_is_there_as_json():
    told = json.loads(json.dumps(as_json(judge(CLAIMS, WORLDS), MAKING)))
    assert [one["verdict"] for one in told["claims"]] == [
        "holds",
        "does not hold",
        "not tested",
        "not tested",
    ]
    assert told["claims"][0]["parts"][0]["worlds"] == {"11": 0.7, "12": 0.71}
    assert told["claims"][0]["parts"][0]["found"]["seeds"] == 2
    assert told["claims"][2]["parts"][0]["found"] is None and told["making"]["size"] == "small"
