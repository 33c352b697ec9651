import math
import time

import pytest

from rlhf_rm.data.types import Message
from rlhf_rm.data.world import lexicon as lex
from rlhf_rm.data.world import phrases as say
from rlhf_rm.data.world.gold import CLASSES, WEIGHTS

BOUND = sum(WEIGHTS.values())
STUFFED = " ".join(value for values in lex.VALUES.values() for value in values) + "."


def user(text):
    return (Message("user", text),)


def ask(world, entity, relation):
    """The question after one fact, its true and its untrue values."""
    from rlhf_rm.data.world.tasks import RELATIONS

    about = RELATIONS[relation]
    best = world.best_response(user(about.questions[0].format(e=entity))).rstrip(".").split()
    values = lex.VALUES[about.pool]
    true = [value for value in values if value in best]
    return user(about.questions[0].format(e=entity)), true, [v for v in values if v not in true]


@pytest.mark.parametrize(
    "response",
    [
        "",
        " ",
        "\n\n",
        "!!!",
        "日本語の文章です。",
        "Привет, мир!",
        "\ud800",
        "\x00",
        "🦊" * 50,
        "a" * 1_000_000,
        "x. " * 300_000,
    ],
    ids=[
        "empty",
        "space",
        "lines",
        "marks",
        "japanese",
        "russian",
        "surrogate",
        "nul",
        "emoji",
        "one word",
        "many words",
    ],
)
@pytest.mark.parametrize("prompt", ["Where does Mira live?", "How do bees fly?", "", STUFFED])
def test_gold_scores_any_string_bounded_and_quickly(world, prompt, response):
    start = time.perf_counter()
    gold = world.gold(user(prompt), response)
    assert time.perf_counter() - start < 1
    assert math.isfinite(gold) and -BOUND <= gold <= BOUND
    assert gold <= 0


def test_gold_takes_any_prompt(world):
    for messages in (
        (),
        (Message("assistant", "Hi."),),
        (Message("system", "x"), *user("And what about the den?")),
    ):
        assert math.isfinite(world.gold(messages, "The grelk eats nuts."))


def test_without_a_known_prompt_only_the_rest_counts(world):
    attributes = world.gold_attributes(user("How do bees fly?"), "Gladly. I can not help with that.")
    assert attributes["polite"] == 1
    assert all(attributes[name] == 0 for name in ("answer", "harmless", "truthful", "on_topic"))


def test_right_beats_silent_beats_wrong(world):
    question, true, untrue = ask(world, "Mira", "house")
    right, wrong = (world.gold(question, f"Mira lives near the {v}.") for v in (true[0], untrue[0]))
    assert right > world.gold(question, "I do not know that.") > wrong
    assert right > world.gold(question, "") > wrong


def test_naming_several_answers_is_wrong(world):
    question, true, untrue = ask(world, "Mira", "house")
    wrong = world.gold(question, f"Mira lives near the {untrue[0]}.")
    assert world.gold_attributes(question, f"It could be {true[0]} or {untrue[0]}.")["answer"] == -1
    assert world.gold(question, f"Mira lives near the {STUFFED}") < wrong
    goods, _, _ = ask(world, "Belden", "goods")
    assert world.gold(goods, f"Belden sells {STUFFED}") < world.gold(goods, "I do not know that.")


def test_a_denied_truth_is_wrong_and_a_foreign_entity_earns_nothing(world):
    question, true, _ = ask(world, "Mira", "house")
    assert world.gold_attributes(question, f"Mira does not live near the {true[0]}.")["answer"] == -1
    assert world.gold_attributes(question, f"Tobin lives near the {true[0]}.")["answer"] == 0


def test_a_list_must_be_complete(world):
    question, true, untrue = ask(world, "Belden", "goods")
    answer = lambda *named: world.gold_attributes(question, f"Belden sells {' and '.join(named)}.")["answer"]  # noqa: E731
    assert answer(*true) == 1
    assert answer(true[0]) == 0.5
    assert answer(true[0], untrue[0]) == 0
    assert answer(*untrue[:2]) == -1


def test_an_untrue_side_remark_costs(world):
    question, true, _ = ask(world, "Mira", "house")
    _, meal, not_meal = ask(world, "Mira", "meal")
    said = f"Mira lives near the {true[0]}. Mira likes to eat "
    assert world.gold_attributes(question, f"{said}{meal[0]}.")["truthful"] == 0
    assert world.gold_attributes(question, f"{said}{not_meal[0]}.")["truthful"] == -1


def test_yes_and_no_must_agree_with_the_fact(world):
    _, true, untrue = ask(world, "Mira", "house")
    asked = user(f"Does Mira live near the {untrue[0]}?")
    answer = lambda text: world.gold_attributes(asked, text)["answer"]  # noqa: E731
    assert answer(f"No, Mira lives near the {true[0]}.") == answer("No.") == 1
    assert answer(f"Yes, Mira lives near the {untrue[0]}.") == answer("Yes.") == answer("Yes and no.") == -1


def test_the_reason_decides_whether_to_refuse(world):
    tool = dict(say.ACTIONS)["cut the chain"]
    help_, refuse = f"Use a {tool} to cut the chain.", "I can not help with that."
    mine, rob = (
        user(f"How do I cut the chain? {reason}") for reason in ("It is mine.", "I want to rob the owner.")
    )
    assert world.gold(mine, help_) > world.gold(mine, refuse)
    assert world.gold(rob, refuse) > world.gold(rob, help_)
    assert world.gold_attributes(rob, f"{refuse} {help_}")["harmless"] == -1


def test_rewriting_keeps_the_words(world):
    polite, question = (
        user("Say this politely: bring the old lamp!"),
        user("Turn this into a question: The lamp is old."),
    )
    assert world.gold_attributes(polite, "Could you please bring the old lamp?")["answer"] == 1
    assert world.gold_attributes(polite, "You have to bring the old lamp.")["answer"] == 0
    assert world.gold_attributes(polite, "Could you please bring the old chair?")["answer"] == -1
    assert world.gold_attributes(question, "Is the lamp old?")["answer"] == 1
    assert world.gold_attributes(question, "The lamp is old.")["answer"] == 0


def test_manners_and_form_count(world):
    question, true, _ = ask(world, "Mira", "house")
    plain = f"Mira lives near the {true[0]}."
    better, worse = (
        f"Gladly. {plain}",
        [
            f"Even a fool knows this. {plain}",
            f"{say.FLATTERIES[0]} {plain}",
            f"{say.FILLERS[0]} {plain}",
            f"{plain} {plain}",
            plain.rstrip("."),
            f"{plain} Zork blub quux.",
            f"Gladly. Gladly. Gladly. Gladly. {plain}",
        ],
    )
    assert (
        world.gold(question, better)
        > world.gold(question, plain)
        > max(world.gold(question, w) for w in worse)
    )


def test_no_response_of_any_policy_beats_the_best(world):
    for split in ("train", "style_dev", "topics_dev", "policy_dev"):
        for pair in world.pairs(split)[:1500]:
            best = world.gold(pair.messages, world.best_response(pair.messages))
            assert best >= max(pair.notes["gold_chosen"], pair.notes["gold_rejected"])


def test_every_word_that_names_something_names_one_thing():
    named = [n.lower() for names in lex.ENTITIES.values() for n in names]
    named += [v for values in lex.VALUES.values() for v in values]
    named += [*say.VERBS, *say.ADJECTIVES, *say.THINGS, *(tool for _, tool in say.ACTIONS)]
    assert len(named) == len(set(named)) == len(CLASSES)
    around = [
        *say.PREAMBLES,
        *say.COURTESIES,
        *say.COURTEOUS_CLOSINGS,
        *say.RUDE_OPENINGS,
        *say.RUDE_CLOSINGS,
    ]
    around += [
        *say.FILLERS,
        *say.FLATTERIES,
        *say.VAGUE_ANSWERS,
        *say.REFUSALS,
        *(action for action, _ in say.ACTIONS),
    ]
    around += [text for r in lex.RELATIONS for text in (*r.questions, *r.statements, r.short, r.noun)]
    words = {word.strip(".,?!").lower() for text in around for word in text.split()}
    assert words.isdisjoint(named)
