"""What to look for in each figure of a report: the sentence below it."""

from rlhf_rm.report import paper

LOOK_FOR = {
    # Groups of runs.
    "comparison": "The strokes are single seeds; groups whose intervals overlap widely are not told apart.",
    "reliability_of_groups": (
        "On the diagonal the model's confidence can be believed; below it, it is too sure."
    ),
    "length_of_groups": "Two dots far apart are a length bias: blue to the right likes the longer response.",
    "val/accuracy_gold": (
        "Against the true labels: a curve that falls after its best is learning wrong labels by heart. "
        f"{paper.CURVES}"
    ),
    "val/accuracy_gpt4": (
        "Against the labels of GPT-4: a curve that falls after its best is learning single labels by heart. "
        f"{paper.CURVES}"
    ),
    "val/accuracy_planted": (
        "Against the labels before some were turned: a curve that falls after its best is learning the "
        "turned ones by heart."
    ),
    "val/accuracy": "Against the labels as they are, wrong ones included, so its ceiling lies below 1.",
    "val/loss": "A loss that rises while accuracy stays is overconfidence: see the reliability diagram.",
    "train/gold": "What the policy really gained.",
    "train/reward": (
        "What the reward model says; where it rises and gold does not, its faults are being used."
    ),
    "train/kl": "How far the policy has gone from its reference, in nats a response.",
    "slices": (
        "Weak tenths teach the reverse of what they say: below 0.5 as labelled, above it flipped. The "
        "paper's numbers, on its original validation split, were read off a plot."
    ),
    # A run of a reward model, and evaluations.
    "accuracy_curves": (
        "Training that leaves validation behind is learning by heart; wrong labels keep both below 1."
    ),
    "loss_curves": "Validation loss that rises while training loss falls says to stop earlier.",
    "reliability": (
        "On the diagonal the model's confidence can be believed; below it, it is too sure of itself."
    ),
    "margins": "Orange bars far to the left: the model is sure that these labels are the wrong way round.",
    "length": "Level without length bias; rising from left to right, the model likes the longer response.",
    "responses": "Chosen and rejected drift apart when training has taught the states what people prefer.",
    "differences": "Two clusters that part: one direction of the states tells chosen from rejected.",
    "shifted": "MetaRM should move pairs to the right: responses that were alike are told apart.",
    "sets": "How much accuracy is lost where prompts, style or policy are not those of the training data.",
    "by_strength": (
        "The weakest tenths hold the wrong labels, so a good model is low there and high on the right."
    ),
    # A policy.
    "reward": (
        "Reward that rises while gold stays or falls is over-optimisation: the reward model's faults are "
        "used."
    ),
    "kl": (
        "How far the policy has gone from its reference; a jump is the first sign of a run that goes wrong."
    ),
    "response_length": "Responses that grow without end are the commonest way to please a reward model.",
    "explained_variance": (
        "How much of the return the critic foresees: near 1 is good, below 0 worse than a constant."
    ),
    "gold_against_proxy": (
        "From the start of a line to its dot: up and to the right is true gain; to the right and level or "
        "down, the reward model is pleased and nobody else."
    ),
    # A vote.
    "strength": (
        "Orange labels are those that the members, from all that they have learnt, would turn round. "
        f"{paper.STRENGTH}"
    ),
    "std": (
        "A U: members differ least about pairs near zero and most about strong ones, as in the paper. A "
        "deviation that is high near zero as well says that the members have not learnt the same thing."
    ),
    "agreement": (
        f"Far below 0.5 on the left, where most labels are wrong, and rising to 1. {paper.AGREEMENT}"
    ),
    # Rounds, and judgements.
    "outcomes": f"Green that grows from round to round, and stays. {paper.OUTCOMES}",
    "accuracy_of_rounds": (
        "On what the policy says now, a reward model that is not renewed falls towards chance; MetaRM "
        "should keep the blue line up."
    ),
    "scores": (
        "Blue is each round's own reward model, so its level means nothing across rounds; orange is what "
        "the policy is really worth."
    ),
    "spread": (
        "Bars span the middle half, lines 5 to 95 %. As the policy sharpens, its responses grow alike to "
        "the reward model and grey sinks; MetaRM should lift blue above it."
    ),
    "judgements": (
        "Green against orange; the interval of wins − losses in the table says whether the lead is luck."
    ),
}
