"""What the paper claims, where, and which of our numbers speaks for or against it.

Sources: "Secrets of RLHF in Large Language Models Part II: Reward Modeling" (arXiv 2401.06080) and MetaRM
(arXiv 2405.00438). "About" marks what was read off a plot. The bounds are ours: the paper states none.
"""

from rlhf_rm.report.paper import DECILES, FLIPPED
from rlhf_rm.reproduction.verdict import Claim, Part

VOTE = (
    Claim(
        "weak pairs",
        "About a quarter of the training pairs have a mean strength below 0.",
        "2.1",
        "about 0.25",
        (Part("negative", "share below 0", above=0.15, below=0.35),),
    ),
    Claim(
        "weakest labels",
        "In the weakest pairs most labels are wrong.",
        "2.1",
        "0.164 agree, by GPT-4",
        (Part("agreement_weakest", "agreement by gold, weakest tenth", below=0.5),),
    ),
    Claim(
        "strongest labels",
        "In the strongest pairs nearly all labels are right.",
        "2.1",
        "0.956 agree, by GPT-4",
        (Part("agreement_strongest", "agreement by gold, strongest tenth", above=0.9),),
    ),
    Claim(
        "agreement by strength",
        "Between them agreement grows with strength.",
        "2.1",
        "monotone",
        (Part("agreement_step", "smallest step from a tenth to the next", above=-0.02),),
    ),
    Claim(
        "deviation by strength",
        "The members differ more in the weakest and in the strongest pairs than near 0: a U over strength.",
        "2.1",
        "a figure",
        (
            Part("deviation_weakest", "deviation, weakest tenth less the tenth nearest 0", above=0.0),
            Part("deviation_strongest", "strongest tenth less the tenth nearest 0", above=0.0),
        ),
    ),
)

DENOISED = (
    Claim(
        "weakest tenth alone",
        "A model that learns from the weakest tenth alone is worse than chance.",
        "2.2",
        f"about {DECILES[1]}",
        (Part("slice_weakest", "accuracy", below=0.5),),
    ),
    Claim(
        "weakest tenth flipped",
        "With its labels flipped the weakest tenth teaches nearly as much as any other.",
        "2.2",
        f"about {FLIPPED[1]}",
        (Part("slice_flipped", "accuracy, less the best of the other tenths", above=-0.05),),
    ),
    Claim(
        "order of the tenths",
        "The stronger the tenth, the better the model that learns from it alone.",
        "2.2",
        f"about {DECILES[1]} in the weakest, {DECILES[5]} in the fifth, {DECILES[8]} in the eighth",
        (
            Part("slice_order", "rank correlation of tenth and accuracy", above=0.5),
            Part("slice_middle", "fifth less weakest tenth", above=0.0),
        ),
    ),
    Claim(
        "strongest tenth alone",
        "The very strongest pairs alone teach a little less than those before them.",
        "2.2",
        f"about {DECILES[10]} against {DECILES[9]}",
        (Part("slice_top", "strongest less those of the sixth to ninth that are trained on", below=0.0),),
    ),
    Claim(
        "plain training decays",
        "Trained on, plain Bradley–Terry loses accuracy on clean validation pairs.",
        "2.2",
        "about 0.014 lost (0.708 to 0.694)",
        (Part("plain_lost", "lost from its best", above=0.01),),
    ),
    Claim(
        "denoised training does not decay",
        "Denoised training loses next to nothing.",
        "2.2",
        "about 0.003 lost (0.714 to 0.711)",
        (
            Part("denoised_lost", "lost from its best", below=0.01),
            Part("denoised_lost_less", "plain training's loss less that", above=0.0),
        ),
    ),
    Claim(
        "denoised against plain",
        "At the end the denoised model (vote targets, by default) is better than the plain one.",
        "2.2",
        "about 0.017 better (0.711 against 0.694)",
        (Part("denoised_gain", "test accuracy, less plain", above=0.0),),
    ),
)


def _contrastive(option: str, loss: str) -> tuple[Claim, Claim]:
    test = Part(f"{option}_test", "test accuracy, less plain", above=0.0)
    shifted = Part(f"{option}_shifted", "mean accuracy of the shifted splits, less plain", above=0.0)
    inside, outside = f"{loss} is better than plain training.", f"{loss} generalises better to other data."
    return (
        Claim(f"{option} in distribution", inside, "3", "no number", (test,)),
        Claim(f"{option} out of distribution", outside, "3", "no number", (shifted,)),
    )


CONTRASTIVE = (
    *_contrastive("simcse_pairs", "SimCSE on pairs"),
    *_contrastive("simcse_difference", "SimCSE on differences"),
    *_contrastive("swav_pairs", "SwAV on pairs"),
    *_contrastive("swav_difference", "SwAV on differences"),
)

ROUNDS = (
    Claim(
        "over-optimisation",
        "PPO without restraint over-optimises: in its second half the reward still grows while gold falls.",
        "4",
        "no number",
        (
            Part("late_reward", "reward, last fifth less middle fifth", above=0.0),
            Part("late_gold", "gold, last fifth less middle fifth", below=0.0),
        ),
    ),
    Claim(
        "a plain reward model falls behind",
        "As the policy moves, a plain reward model tells its responses apart less and less.",
        "4",
        "no number",
        (Part("vanilla_policy_change", "accuracy by gold, last round less first", below=0.0),),
    ),
    Claim(
        "MetaRM against SFT",
        "The policy of MetaRM wins more often than it loses against SFT.",
        "4",
        "69 % won, 3 % lost (harmless, round 3, by GPT-4)",
        (Part("meta_lead", "wins less losses, mean of the rounds", above=0.0),),
    ),
    Claim(
        "MetaRM keeps up",
        "MetaRM goes on telling the policy's responses apart.",
        "4",
        "no number",
        (Part("meta_policy_change", "accuracy by gold, last round less first", above=-0.03),),
    ),
    Claim(
        "MetaRM falls behind less",
        "As the policy moves, MetaRM loses less than a plain reward model.",
        "4",
        "no number",
        (Part("meta_policy_change_gain", "that change, less the plain one", above=0.0),),
    ),
    Claim(
        "MetaRM keeps what it knew",
        "On the original pairs MetaRM is as good as plain training.",
        "4",
        "no number",
        (Part("meta_test_gain", "test accuracy, mean of the rounds, less plain", above=-0.01),),
    ),
    Claim(
        "MetaRM against plain rounds",
        "The best round of MetaRM beats the best plain one.",
        "4",
        "54 % won, 15 % lost (harmless, against each other, by GPT-4)",
        (Part("meta_against_vanilla", "wins less losses against each other, best rounds", above=0.0),),
    ),
)

UNTESTED_HERE = (
    Claim(
        "GPT-4 agrees with strength",
        "GPT-4 agrees with 0.164 of the weakest and 0.956 of the strongest labels of HH-RLHF.",
        "2.1",
        "0.164, 0.956",
        untested="needs HH-RLHF and GPT-4; gold takes the judge's place above",
    ),
    Claim(
        "where the labels turn",
        "Near a strength of 0 about half of the labels are right.",
        "2.1",
        "0.544 agree, by GPT-4",
        untested="the tenths by strength above do not single it out",
    ),
    Claim(
        "each recipe",
        "Flipping, soft labels and margins each help, and soft labels with margins most.",
        "2.2",
        "about 0.714 accuracy at best, soft labels with margins",
        untested="one recipe is trained here; docs/methods/denoised.md has others on one world",
    ),
    Claim(
        "second tenth flipped",
        "With its labels flipped the second weakest tenth teaches too.",
        "2.2",
        f"about {FLIPPED[2]}",
        untested="no number here reads it",
    ),
    Claim(
        "plateau of the tenths",
        "From the sixth to the ninth tenth the models that learn from one alone are alike.",
        "2.2",
        f"about {DECILES[6]} in each",
        untested="no number here reads it: alike is a matter of degree",
    ),
    Claim(
        "best contrastive loss",
        "SimCSE on pairs is the best of the four.",
        "3",
        "a figure",
        untested="each is compared with plain training, not with the others",
    ),
    Claim(
        "clusters",
        "Contrastive training makes tighter and better separated clusters of representations.",
        "3",
        "a figure",
        untested="the paper shows it by eye, in t-SNE, without a number to compare",
    ),
    Claim(
        "steadier PPO",
        "PPO is steadier on a contrastive reward model.",
        "3",
        "a figure",
        untested="no policy learns from the contrastive models here",
    ),
    Claim(
        "later rounds",
        "Rounds of MetaRM improve at first, and then no more.",
        "4",
        "69 % won in round 3, 64 % in round 4 (harmless)",
        untested="no number here reads the course of the rounds",
    ),
    Claim(
        "out of distribution",
        "A policy of MetaRM also wins on prompts of other data.",
        "4",
        "no number",
        untested="policies are judged on prompts like those that they trained on",
    ),
    Claim(
        "helpful, and summaries",
        "MetaRM also wins on helpful prompts and on TL;DR.",
        "4",
        "73 % won, 4 % lost; 78 % won, 17 % lost",
        untested="the world has one kind of task; these need their data and GPT-4",
    ),
    Claim(
        "Llama 2",
        "All of it with Llama 2 of 7 B parameters on HH-RLHF.",
        "2 to 4",
        "0.714 accuracy at best",
        untested="needs 8 GPUs; experiment=paper_llama2 has the settings",
    ),
)

CLAIMS = (*VOTE, *DENOISED, *CONTRASTIVE, *ROUNDS, *UNTESTED_HERE)
