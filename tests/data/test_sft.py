import pytest

from rlhf_rm.data.sft import SFTDataModule, dialogues_of, training_dialogues
from rlhf_rm.data.types import Message
from rlhf_rm.errors import UserError

DIALOGUES = [
    [Message("user", "hi"), Message("assistant", "yes")],
    [Message("user", "one two"), Message("assistant", "no"), Message("user", "x"), Message("assistant", "")],
]


class Demonstrated:
    name = "demonstrated"

    def __init__(self, dialogues):
        self.dialogues = dialogues

    def demonstrations(self, split):
        return self.dialogues

    def demonstrations_fingerprint(self):
        return "abc"


@pytest.fixture(scope="module")
def tokenizer(tiny):
    return tiny.make_tokenizer()


@pytest.fixture
def datamodule(tokenizer):
    def make(source, **changes):
        settings = {
            "layout": "shared",
            "max_length": 200,
            "too_long": "drop",
            "batch_size": 2,
            "eval_batch_size": 2,
            "row_tokens": 100,
            "micro_tokens": 100,
            "row_multiple": 1,
            "workers": 0,
            "seed": 0,
        }
        return SFTDataModule(source, tokenizer, **settings | changes)

    return make


@pytest.mark.parametrize("layout", ["shared", "packed", "padded"])
def test_labels_are_the_next_token_of_the_last_response_and_nothing_else(datamodule, tokenizer, layout):
    data = datamodule(Demonstrated(DIALOGUES), layout=layout)
    found = []
    for text in data.step("train", [0, 1]):
        labelled = text.label_RT.flatten() >= 0
        found.append(tokenizer.decode(text.label_RT.flatten()[labelled]))
        following = text.rows.input_ids_RT.flatten().roll(-1)
        assert (text.label_RT.flatten()[labelled] == following[labelled]).all()
        assert text.examples == len(text.rows.first_N)
    # The empty response has its EOS, and the space that the template puts before it.
    assert sorted("".join(found).split("<|eos|>")) == ["", " ", " yes"]


def test_a_source_without_demonstrations_gives_its_chosen_responses(tiny):
    source = tiny.Source()
    pair = source.pairs("train")[2]
    assert dialogues_of(source, "train")[2] == (*pair.messages, Message("assistant", pair.chosen))
    dialogues, fingerprint = training_dialogues(source)
    texts = {message.content for dialogue in dialogues() for message in dialogue}
    assert {pair.chosen, pair.rejected, pair.messages[0].content} <= texts
    assert fingerprint == source.fingerprint()


def test_a_tokenizer_is_trained_on_demonstrations_where_there_are_some():
    dialogues, fingerprint = training_dialogues(Demonstrated(DIALOGUES))
    assert (dialogues(), fingerprint) == (DIALOGUES, "abc")


def test_what_is_too_long_is_left_out_and_nothing_left_is_an_error(datamodule):
    long = [Message("user", "q"), Message("assistant", "z" * 90)]
    assert len(datamodule(Demonstrated([*DIALOGUES, long]), max_length=70).trees("train")) == 2
    with pytest.raises(
        UserError, match=r"all 1 dialogues of the train split are longer than model\.max_length=70"
    ):
        datamodule(Demonstrated([long]), max_length=70).trees("train")
    with pytest.raises(UserError, match="the train split of demonstrated has no dialogues"):
        datamodule(Demonstrated([])).trees("train")
