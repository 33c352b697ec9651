"""What the world must not be solved by: length, and a bag of words; and that it is short enough."""

import re
from collections import Counter

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from rlhf_rm.data.world.gold import WEIGHTS


def counts(text):
    return Counter(re.findall(r"\w+|[^\w\s]", text.lower()))


def bag_of_words(pairs, vocabulary):
    """Word counts of chosen minus rejected: [B, words]."""
    features = torch.zeros(len(pairs), len(vocabulary))
    for row, pair in zip(features, pairs, strict=True):
        for text, sign in ((pair.chosen, 1), (pair.rejected, -1)):
            for word, n in counts(text).items():
                if word in vocabulary:
                    row[vocabulary[word]] += sign * n
    return features


def lengths(pairs):
    """Words and characters of chosen minus rejected: [B, 2]."""
    return torch.tensor(
        [[len(p.chosen.split()) - len(p.rejected.split()), len(p.chosen) - len(p.rejected)] for p in pairs]
    ).float()


def logistic_regression(features, l2):
    weights = torch.zeros(features.shape[1], requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=60, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = torch.nn.functional.softplus(-features @ weights).mean() + l2 * weights @ weights
        loss.backward()
        return loss

    optimizer.step(closure)
    return weights.detach()


def accuracy(scores):
    return ((scores > 0).float() + 0.5 * (scores == 0).float()).mean().item()


def test_length_does_not_solve_it(world):
    train, test = lengths(world.pairs("train")), lengths(world.pairs("test"))
    longer = accuracy(test[:, 0])
    fitted = accuracy(test @ logistic_regression(train, 1e-4))
    assert max(longer, 1 - longer, fitted) <= 0.68


@pytest.mark.parametrize("l2", [1e-2, 1e-3, 1e-4])
def test_a_bag_of_words_does_not_solve_it(world, l2):
    pairs = world.pairs("train")
    words = sorted({word for p in pairs for text in (p.chosen, p.rejected) for word in counts(text)})
    vocabulary = {word: i for i, word in enumerate(words)}
    weights = logistic_regression(bag_of_words(pairs, vocabulary), l2)
    # Above chance, since manners do show in words.
    assert 0.52 < accuracy(bag_of_words(world.pairs("test"), vocabulary) @ weights) <= 0.70


def test_most_of_the_gold_difference_is_in_the_match_with_the_question(world):
    match = rest = 0.0
    for pair in world.pairs("test"):
        chosen, rejected = (world.gold_attributes(pair.messages, r) for r in (pair.chosen, pair.rejected))
        parts = {name: WEIGHTS[name] * (chosen[name] - rejected[name]) for name in WEIGHTS}
        matched = sum(parts.pop(name) for name in ("answer", "harmless", "truthful", "on_topic"))
        match += abs(matched)
        rest += abs(sum(parts.values()))
    assert match > 2 * rest


def test_pairs_are_short_and_share_their_prompts(world):
    texts = [m.content for dialogue in world.demonstrations("train") for m in dialogue]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=1024, initial_alphabet=alphabet))

    def tokens(text):
        return len(tokenizer.encode(text).ids) + 1  # one marker a turn

    shared = own = 0
    for pair in world.pairs("train")[:2000]:
        shared += sum(tokens(m.content) for m in pair.messages)
        own += tokens(pair.chosen) + tokens(pair.rejected)
    assert (shared + own) / 2000 <= 100
    assert shared / (shared + own) >= 0.35
