"""Chat templates: how a dialogue becomes the one text that is tokenised.

The template is Jinja on the tokenizer itself, so an export carries exactly what was trained with.
"""

from collections.abc import Sequence
from typing import Any

from jinja2.exceptions import TemplateError
from tokenizers import processors
from transformers import PreTrainedTokenizerBase

from rlhf_rm.data.types import Message
from rlhf_rm.errors import UserError

TEMPLATES = ("auto", "hh", "plain")

# Whitespace outside of {{ }} and {% %} would be rendered, hence the long lines.
_HH_TURNS = (
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}{{ '\\n\\nHuman: ' + message['content'] }}"
    "{% elif message['role'] == 'assistant' %}{{ '\\n\\nAssistant: ' + message['content'] }}"
    "{% else %}{{ ('' if loop.first else '\\n\\n') + message['content'] }}{% endif %}"
    "{% endfor %}"
)
_HH_GENERATION = "{{ '\\n\\nAssistant:' if add_generation_prompt else '' }}"
_EOS = "{{ eos_token if messages[-1]['role'] == 'assistant' and not add_generation_prompt else '' }}"


def set_template(tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    r"""Give the tokenizer its chat template.

    ``hh``
        ``\n\nHuman: …\n\nAssistant: …``; a system message stands as it is, after a blank line if it is
        not the first. The text of an HH dialogue comes out as it was.
    ``plain``
        the contents alone, with a blank line between two turns; for an encoder its separator token.
    ``auto``
        the tokenizer's own template if it has one, else ``plain`` for encoders and ``hh`` for others.

    In a decoder's template BOS (if there is one) comes first and EOS ends the final assistant message
    unless a generation prompt is asked for; EOS is added to an own template that lacks it. A decoder's
    tokenizer then adds no special tokens itself, so that whoever tokenises the template's text gets
    BOS once, however he does it. An encoder's template holds neither: its post-processor adds CLS and
    SEP (see :func:`is_encoder`).

    Raises:
        UserError: an unknown name, a decoder's tokenizer without EOS, an own template that fails.
    """
    if name not in TEMPLATES:
        raise UserError(f"template={name} is unknown: use one of {', '.join(TEMPLATES)}.")
    encoder = is_encoder(tokenizer)
    if not encoder and tokenizer.eos_token is None:
        raise UserError(
            "the tokenizer has no EOS token, which ends every response: set eos_token in its "
            "tokenizer_config.json."
        )
    if not encoder:
        _add_nothing(tokenizer)
    if name == "auto" and tokenizer.chat_template is not None:
        tokenizer.chat_template = _own_template(tokenizer, encoder)
        return
    if name == "auto":
        name = "plain" if encoder else "hh"
    body = _HH_TURNS + _HH_GENERATION if name == "hh" else _plain(encoder)
    bos = "{{ bos_token }}" if tokenizer.bos_token is not None else ""
    tokenizer.chat_template = body if encoder else bos + body + _EOS


def _add_nothing(tokenizer: PreTrainedTokenizerBase) -> None:
    """Let the tokenizer add no special tokens to a text."""
    if tokenizer("a")["input_ids"] == tokenizer("a", add_special_tokens=False)["input_ids"]:
        return
    core: Any = tokenizer
    core.backend_tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)  # adds nothing


def is_encoder(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the tokenizer puts a text between CLS and SEP, as BERT's and its kin's do."""
    cls, sep = tokenizer.cls_token_id, tokenizer.sep_token_id
    if cls is None or sep is None:
        return False
    ids = tokenizer("a")["input_ids"]
    return len(ids) > 2 and ids[0] == cls and ids[-1] == sep


def render(
    tokenizer: PreTrainedTokenizerBase,
    dialogues: Sequence[Sequence[Message]],
    *,
    add_generation_prompt: bool = False,
) -> list[str]:
    """The text of each dialogue.

    Raises:
        UserError: the template refuses a dialogue, as some do with system messages or two turns of one
            role in a row.
    """
    conversations = [[message._asdict() for message in dialogue] for dialogue in dialogues]
    try:
        return _apply(tokenizer, conversations, add_generation_prompt)
    except TemplateError as error:
        roles = [[message.role for message in dialogue] for dialogue in dialogues]
        refused = next(
            i for i, one in enumerate(conversations) if not _accepts(tokenizer, one, add_generation_prompt)
        )
        # Some accept a whole dialogue, and refuse the same turns where an answer is asked for.
        asked = " with a generation prompt" if _accepts(tokenizer, conversations[refused]) else ""
        raise UserError(
            f"the tokenizer's own chat template refuses the roles {', '.join(roles[refused])}{asked} "
            f"({error}): use template=hh or template=plain."
        ) from None


def wording(tokenizer: PreTrainedTokenizerBase) -> tuple[str | None, ...]:
    """What the chat template makes of some dialogues, to be compared with that of another tokenizer.

    Without BOS and EOS around it, and with a blank line for what separates turns for an encoder: in these
    tokenizers differ who say the same. None where the template refuses a dialogue.
    """
    turns = [Message(role, role * 2) for role in ("user", "assistant")] * 2
    dialogues = [turns, turns[:1], [Message("system", "rule"), *turns]]
    conversations = [[message._asdict() for message in dialogue] for dialogue in dialogues]
    return tuple(
        _without_ends(tokenizer, _apply(tokenizer, [one], False)[0]) if _accepts(tokenizer, one) else None
        for one in conversations
    )


def _without_ends(tokenizer: PreTrainedTokenizerBase, text: str) -> str:
    if is_encoder(tokenizer):
        return text.replace(str(tokenizer.sep_token), "\n\n")
    return text.removeprefix(str(tokenizer.bos_token or "")).removesuffix(str(tokenizer.eos_token))


def _apply(tokenizer: PreTrainedTokenizerBase, conversations: Any, add_generation_prompt: bool) -> Any:
    return tokenizer.apply_chat_template(
        conversations, tokenize=False, add_generation_prompt=add_generation_prompt
    )


def _accepts(
    tokenizer: PreTrainedTokenizerBase,
    conversation: list[dict[str, str]],
    add_generation_prompt: bool = False,
) -> bool:
    try:
        _apply(tokenizer, conversation, add_generation_prompt)
    except TemplateError:
        return False
    return True


def _plain(encoder: bool) -> str:
    between = "sep_token" if encoder else "'\\n\\n'"
    return (
        "{% for message in messages %}"
        f"{{{{ ('' if loop.first else {between}) + message['content'] }}}}"
        "{% endfor %}"
        f"{{{{ {between} if add_generation_prompt else '' }}}}"
    )


def _own_template(tokenizer: PreTrainedTokenizerBase, encoder: bool) -> str:
    """The tokenizer's own template, ending a response in EOS."""
    template = tokenizer.chat_template
    if isinstance(template, dict):
        if "default" not in template:
            raise UserError(
                f"the tokenizer has chat templates named {', '.join(sorted(template))} and no default: "
                "use template=hh or template=plain."
            )
        tokenizer.chat_template = template = template["default"]
    probe = render(tokenizer, [[Message("user", "a"), Message("assistant", "b")]])[0]
    if encoder or probe.rstrip().endswith(tokenizer.eos_token):
        return str(template)
    # Jinja drops one newline at the end of a template; followed by more text it would be rendered.
    return str(template).removesuffix("\n") + _EOS
