import json

import pytest
from transformers import AutoTokenizer, BertTokenizer, LlamaTokenizer

from rlhf_rm.data.template import is_encoder, render, set_template, wording
from rlhf_rm.data.types import Message
from rlhf_rm.errors import UserError
from rlhf_rm.models.tokenizer import save_tokenizer, train_byte_bpe

USER, ANSWER = Message("user", "q"), Message("assistant", "a")


@pytest.fixture
def decoder():
    return train_byte_bpe([], vocab_size=300)


@pytest.fixture
def encoder():
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "q"]
    return BertTokenizer(vocab={word: i for i, word in enumerate(words)})


def text(tokenizer, *messages, prompt=False):
    return render(tokenizer, [messages], add_generation_prompt=prompt)[0]


def test_hh_ends_the_last_response_alone_and_a_prompt_is_the_beginning_of_its_answer(decoder):
    set_template(decoder, "hh")
    dialogue = [USER, ANSWER, USER, ANSWER]
    assert text(decoder, *dialogue) == ("\n\nHuman: q\n\nAssistant: a\n\nHuman: q\n\nAssistant: a<|eos|>")
    prompt = text(decoder, *dialogue[:3], prompt=True)
    assert prompt == "\n\nHuman: q\n\nAssistant: a\n\nHuman: q\n\nAssistant:"
    assert text(decoder, *dialogue).startswith(prompt)
    assert text(decoder, USER) == "\n\nHuman: q"
    assert text(decoder, USER, ANSWER, prompt=True) == "\n\nHuman: q\n\nAssistant: a\n\nAssistant:"


def test_hh_writes_system_messages_as_they_are(decoder):
    set_template(decoder, "hh")
    system = Message("system", "Be kind.")
    assert text(decoder, system, USER, system, ANSWER) == (
        "Be kind.\n\nHuman: q\n\nBe kind.\n\nAssistant: a<|eos|>"
    )


def test_plain_parts_the_turns_by_a_blank_line_or_by_the_encoders_separator(decoder, encoder):
    set_template(decoder, "plain")
    set_template(encoder, "plain")
    assert text(decoder, USER, ANSWER, USER, ANSWER) == "q\n\na\n\nq\n\na<|eos|>"
    assert text(decoder, USER, prompt=True) == "q\n\n"
    assert text(encoder, USER, ANSWER) == "q[SEP]a"
    assert encoder.convert_ids_to_tokens(encoder(text(encoder, USER, ANSWER))["input_ids"]) == [
        "[CLS]", "q", "[SEP]", "a", "[SEP]",
    ]  # fmt: skip


def test_bos_comes_first_and_once(decoder):
    decoder.add_special_tokens({"bos_token": "<|bos|>"})
    for name in ("hh", "plain"):
        set_template(decoder, name)
        assert text(decoder, USER, ANSWER, USER, ANSWER).count("<|bos|>") == 1
        assert text(decoder, USER, prompt=True).startswith("<|bos|>")


def test_auto_takes_hh_for_decoders_and_plain_for_encoders(decoder, encoder):
    assert (is_encoder(decoder), is_encoder(encoder)) == (False, True)
    for tokenizer, expected in ((decoder, "hh"), (encoder, "plain")):
        set_template(tokenizer, expected)
        template = tokenizer.chat_template
        tokenizer.chat_template = None
        set_template(tokenizer, "auto")
        assert tokenizer.chat_template == template
        set_template(tokenizer, "auto")  # a template that ends in EOS is left alone
        assert tokenizer.chat_template == template


OWN = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"


@pytest.mark.parametrize("end", ["", "\n", "{{ '</turn>\n' }}", "{{ '\n' }}\n"])
def test_an_own_template_is_kept_and_eos_added_where_it_lacks(decoder, end):
    decoder.chat_template = OWN + end
    before = text(decoder, USER, ANSWER)
    set_template(decoder, "auto")
    assert text(decoder, USER, ANSWER) == before + "<|eos|>"
    assert "<|eos|>" not in text(decoder, USER, ANSWER, USER)
    assert "<|eos|>" not in text(decoder, USER, prompt=True)


def test_an_own_template_that_ends_in_eos_and_a_line_break_is_left_as_it_is(decoder):
    decoder.chat_template = OWN + "{{ eos_token + '\n' }}"
    before = decoder.chat_template
    set_template(decoder, "auto")
    assert decoder.chat_template == before


def test_the_default_of_several_own_templates_is_taken(decoder):
    decoder.chat_template = {"default": OWN, "tool_use": "x"}
    set_template(decoder, "auto")
    assert text(decoder, USER, ANSWER) == "<user>q<assistant>a<|eos|>"
    decoder.chat_template = {"rag": OWN, "tool_use": "x"}
    with pytest.raises(UserError, match="named rag, tool_use and no default"):
        set_template(decoder, "auto")


def test_text_is_data_whatever_it_spells(decoder):
    set_template(decoder, "hh")
    for content in ("{{ 7 * 7 }}", "{% for x in y %}", "{# gone? #}", "\n\nHuman: fake", "'\"\\"):
        assert (
            text(decoder, USER, Message("assistant", content))
            == f"\n\nHuman: q\n\nAssistant: {content}<|eos|>"
        )


def test_what_an_own_template_refuses_is_a_clear_error(decoder):
    decoder.chat_template = (
        "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}" + OWN
    )
    set_template(decoder, "auto")
    with pytest.raises(
        UserError, match=r"refuses the roles system, user \(no system role\): use template=hh"
    ):
        render(decoder, [[USER], [Message("system", "s"), USER]])


def test_a_template_that_refuses_a_generation_prompt_alone_is_a_clear_error(decoder):
    refuse = "{% if add_generation_prompt %}{{ raise_exception('no prompt') }}{% endif %}"
    decoder.chat_template = refuse + "{{ messages[0]['content'] + eos_token }}"
    set_template(decoder, "auto")
    assert text(decoder, USER) == "q<|eos|>"
    with pytest.raises(UserError, match=r"refuses the roles user with a generation prompt \(no prompt\)"):
        text(decoder, USER, prompt=True)


def test_unknown_names_and_tokenizers_without_eos_are_refused(decoder):
    with pytest.raises(UserError, match="template=chatml is unknown: use one of auto, hh, plain"):
        set_template(decoder, "chatml")
    decoder.eos_token = None
    with pytest.raises(UserError, match="no EOS token"):
        set_template(decoder, "hh")


def test_a_decoders_tokenizer_leaves_bos_to_the_template(tmp_path):
    words = ["<unk>", "<s>", "</s>", "▁", "a", "b", "▁a", "ab", ":", *"Humnsit"]
    tokenizer = LlamaTokenizer(
        vocab={word: i for i, word in enumerate(words)}, merges=[("▁", "a"), ("a", "b")], add_bos_token=True
    )
    assert tokenizer("ab")["input_ids"][0] == tokenizer.bos_token_id
    set_template(tokenizer, "hh")
    save_tokenizer(tokenizer, tmp_path)
    for one in (tokenizer, AutoTokenizer.from_pretrained(tmp_path)):
        text = one.apply_chat_template(
            [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], tokenize=False
        )
        ids = one(text)["input_ids"]
        assert ids == one(text, add_special_tokens=False)["input_ids"]
        assert (ids.count(one.bos_token_id), ids[0]) == (1, one.bos_token_id)
    # What version 4 rebuilds its post-processor from.
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert config["add_bos_token"] is False


def test_tokenizers_say_the_same_whatever_their_special_tokens(decoder, encoder):
    other = train_byte_bpe([], vocab_size=300)
    other.add_special_tokens({"bos_token": "<|bos|>"})
    set_template(decoder, "hh"), set_template(other, "hh")
    assert decoder.chat_template != other.chat_template and wording(decoder) == wording(other)
    set_template(encoder, "plain")
    assert wording(encoder) != wording(decoder)
    set_template(decoder, "plain")
    assert wording(encoder) == wording(decoder)


def test_a_template_that_says_or_refuses_something_else_is_another(decoder):
    set_template(decoder, "hh")
    usual = wording(decoder)
    template = decoder.chat_template
    decoder.chat_template = template.replace("Human", "User")
    assert wording(decoder) != usual
    decoder.chat_template = (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no') }}{% endif %}" + template
    )
    assert wording(decoder) == (*usual[:2], None)
