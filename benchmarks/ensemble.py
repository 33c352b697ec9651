"""What training the members of a vote costs, against one reward model on the same data, in one run.

    python benchmarks/ensemble.py --data hh.jsonl.gz --json out.json

Adapters in the top layers run what lies below once for as many steps as there are members: let --steps
less --warmup be a multiple of --size.
"""

import sys

from epochs import Side, compare

MEMBERS = ("method=ensemble", "members.size={size}")
LORA = (*MEMBERS, "members.kind=lora", "adapter=lora")
SIDES = {
    "one": Side("one reward model, every weight trained", ("method=reward",), lambda _: 1),
    "head": Side("{size} heads over a frozen backbone", (*MEMBERS, "members.kind=head")),
    # Frozen weights need no gradients of their own: 4 of 6 operations are left.
    "lora": Side("{size} adapters in all layers", LORA, lambda told: told["size"] * 4 / 6),
    "lora_top": Side(
        "{size} adapters in the top {top_layers} layers", (*LORA, "adapter.top_layers={top_layers}")
    ),
}

if __name__ == "__main__":
    sys.exit(compare(__file__, str(__doc__), SIDES, {"size": 10, "top_layers": 2}))
