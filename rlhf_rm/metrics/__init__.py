"""How good a reward model is: pure functions of rewards, and torchmetrics over them.

Every metric adds up pairs, never means of batches, and counts each pair that it is given. Samplers
that fill the last batch of a rank with repeated pairs would count those twice: collect rewards with
their ``index`` in :class:`rlhf_rm.metrics.rewards.RewardTable`, which keeps each pair once, and
compute on what it returns; or leave the repeated pairs out before ``update``.
"""
