"""What a contrastive step costs, against a plain one of the same pairs, in one run.

python benchmarks/contrastive.py --data hh.jsonl.gz --json out.json
"""

import sys

from epochs import Side, compare

CONTRASTIVE = ("method=contrastive", "contrastive=simcse_pairs")
SIDES = {
    "plain": Side("preferences alone", ("method=reward",), lambda _: 1),
    "simcse": Side("SimCSE on pairs", CONTRASTIVE, lambda _: 2),
    "swav": Side("SwAV on pairs", ("method=contrastive", "contrastive=swav_pairs"), lambda _: 2),
    "share_prefix": Side(
        "SimCSE, one prefix for both views", (*CONTRASTIVE, "contrastive.share_prefix=true")
    ),
}

if __name__ == "__main__":
    sys.exit(compare(__file__, str(__doc__), SIDES, {}))
