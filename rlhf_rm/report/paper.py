"""What the paper found, to stand beside what is reported; figures marked "about" were read off its plots.

Source: "Secrets of RLHF in Large Language Models Part II: Reward Modeling" (arXiv 2401.06080).
"""

# Section 2.1, HH-RLHF, 10 members: quantiles of the mean difference, by per cent.
QUANTILES = {
    "5": -1.22, "10": -0.58, "20": -0.17, "25": -0.04, "30": 0.07,
    "50": 0.49, "75": 1.15, "90": 1.87, "100": 3.43,
}  # fmt: skip
STRENGTH = "In the paper about a quarter of the training pairs of HH-RLHF have a mean below 0."
AGREEMENT = (
    "In the paper GPT-4 agrees with 0.164 of the labels in the lowest bin, 0.544 near zero and 0.956 in the "
    "highest."
)
# Section 2.2, original validation split, about: accuracy after training on one tenth alone, by its number.
DECILES = {1: 0.327, 2: 0.347, 3: 0.446, 4: 0.561, 5: 0.653, 6: 0.68, 7: 0.68, 8: 0.68, 9: 0.68, 10: 0.659}
FLIPPED = {1: 0.666, 2: 0.648}
CURVES = (
    "In the paper plain training falls from about 0.708 at its best to 0.694 after 8,000 steps, soft labels "
    "with adaptive margins only from 0.714 to 0.711."
)
# Section 4, harmless prompts, against the SFT model, judged by GPT-4: win, tie and lose in rounds 1 to 4.
OUTCOMES = (
    "The paper's, by GPT-4 on harmless prompts in rounds 1 to 4: 44–44–12, 65–31–4, 69–28–3 and 64–31–5 per "
    "cent of win, tie and lose; on helpful prompts 39–52–9, 62–33–5, 73–23–4 and 67–27–6."
)
