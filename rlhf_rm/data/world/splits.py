"""The splits of the synthetic world: which prompts each draws from, and which policy responds."""

from rlhf_rm.data.world.policy import ANNOTATED, DRIFTED, Policy
from rlhf_rm.data.world.tasks import HELD_OUT, KNOWN, PromptMix

SHIFTED = ("topics_dev", "topics_heldout", "style_dev", "style_heldout", "policy_dev", "policy_heldout")
SPLITS = ("train", "validation", "test", *SHIFTED)
DEMONSTRATION_SPLITS = ("train", "validation", "test")

# How often each kind of task is drawn: fact, follow_up, check, polite, question, how_to.
ALL_TASKS = (0.52, 0.2, 0.06, 0.06, 0.04, 0.12)
FACT_TASKS = (0.68, 0.25, 0.07, 0.0, 0.0, 0.0)
REQUESTS = (0.0, 0.0, 0.0, 0.3, 0.2, 0.5)
ORDINARY = PromptMix(KNOWN, False, ALL_TASKS)
STYLED = PromptMix(KNOWN, True, ALL_TASKS)
NEW_TOPICS = PromptMix(HELD_OUT, False, FACT_TASKS)

# What a split is made of: its prompts, its share [from, to) of them by their hash, and who responds.
# Shares of one mix never overlap, so no prompt is in two splits.
RECIPES: dict[str, tuple[PromptMix, float, float, Policy]] = {
    "train": (ORDINARY, 0.0, 0.7, ANNOTATED),
    "validation": (ORDINARY, 0.7, 0.76, ANNOTATED),
    "test": (ORDINARY, 0.76, 0.84, ANNOTATED),
    "policy_dev": (ORDINARY, 0.84, 0.92, DRIFTED),
    "policy_heldout": (ORDINARY, 0.92, 1.0, DRIFTED),
    "topics_dev": (NEW_TOPICS, 0.6, 0.8, ANNOTATED),
    "topics_heldout": (NEW_TOPICS, 0.8, 1.0, ANNOTATED),
    "style_dev": (STYLED, 0.0, 0.5, ANNOTATED),
    "style_heldout": (STYLED, 0.5, 1.0, ANNOTATED),
}
# Demonstrations about new topics keep to the shares of their own.
# Too few are left for a third share, so those of validation serve the test too.
DEMONSTRATED_TOPICS = {"train": (0.0, 0.4), "validation": (0.4, 0.6), "test": (0.4, 0.6)}
