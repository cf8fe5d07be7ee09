"""The chat format, owned here alone: every turn is its role's control token, its content, and ``<|end|>``.

    <|system|>Be brief.<|end|><|user|>1+1?<|end|><|assistant|>2<|end|>

Ids and loss mask are put together piece by piece from the same parts, so they cannot disagree. Content is always
encoded as plain text: whatever a user writes, a control token comes from the format alone. What an assistant says and
the ``<|end|>`` that closes it are supervised, nothing else is. Padding is told by the attention mask and by the mask
of `RenderedConversation`, never by comparing ids: in GPT-2 padding, beginning and end of text are one id.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from transformers import PreTrainedTokenizerFast

from configs import InputError
from finetune.conversations import Conversation, Message
from tokenizer_ext.hf_tokenizer import plain_text_encoder
from tokenizer_ext.terminal import printable

ROLE_TOKENS = {"system": "<|system|>", "user": "<|user|>", "assistant": "<|assistant|>"}
END_TOKEN = "<|end|>"
CONTROL_TOKENS = (*ROLE_TOKENS.values(), END_TOKEN)

# The same format for `tokenizer.apply_chat_template`, which other tools call. It renders one text and then looks for
# control tokens in it, so unlike `ChatFormat` it lets content forge a turn unless its sanitize_control_tokens is set.
# `{% generation %}` marks what is supervised for other trainers.
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] not in ['system', 'user', 'assistant'] %}"
    "{{ raise_exception('role is ' ~ message['role'] ~ ', expected system, user or assistant') }}{% endif %}"
    "{{ '<|' ~ message['role'] ~ '|>' }}"
    "{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] ~ '<|end|>' }}{% endgeneration %}"
    "{% else %}{{ message['content'] ~ '<|end|>' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


@dataclass(frozen=True)
class RenderedConversation:
    """The ids of a conversation, and for each whether it is learned: assistant content and the ``<|end|>`` after it."""

    input_ids: list[int]
    supervised: list[bool]


class ChatFormat:
    """The chat format in the ids of one tokenizer, which holds the control tokens.

    Raises: InputError when it lacks one of them.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        ids = {token: tokenizer.convert_tokens_to_ids(token) for token in CONTROL_TOKENS}
        known = tokenizer.get_added_vocab()
        if missing := [token for token in CONTROL_TOKENS if token not in known]:
            raise InputError(
                f"tokenizer of {len(tokenizer)} tokens: no control token {', '.join(missing)}; "
                "add them with tokenizer_ext.hf_tokenizer.add_control_tokens, or use a fine-tuned model's tokenizer"
            )
        self.tokenizer = tokenizer
        self.role_ids: dict[str, int] = {role: ids[token] for role, token in ROLE_TOKENS.items()}
        self.end_id: int = ids[END_TOKEN]
        self._plain_text = plain_text_encoder(tokenizer)

    @property
    def pad_id(self) -> int:
        """An id to fill rows with; what it is has no effect, see the module."""
        return self.end_id if self.tokenizer.pad_token_id is None else self.tokenizer.pad_token_id

    def render(self, conversation: Conversation) -> RenderedConversation:
        """The whole conversation, never cut: a caller with a limit drops what is longer, and counts it."""
        return self.render_all([conversation])[0]

    def render_all(self, conversations: Sequence[Conversation]) -> list[RenderedConversation]:
        """`render` of each, with all content encoded in one parallel call."""
        contents = self._encode([message.content for chat in conversations for message in chat.messages])
        return [self._assemble(chat.messages, contents) for chat in conversations]

    def render_prompt(self, messages: Sequence[Message]) -> list[int]:
        """The ids after which the assistant speaks: all of `messages`, then ``<|assistant|>``."""
        history = self._assemble(messages, self._encode([message.content for message in messages]))
        return [*history.input_ids, self.role_ids["assistant"]]

    def decode_reply(self, ids: Sequence[int]) -> str:
        """The text of generated ids up to, not including, the first ``<|end|>``."""
        reply = ids[: ids.index(self.end_id)] if self.end_id in ids else ids
        return self.tokenizer.decode(list(reply), skip_special_tokens=False, clean_up_tokenization_spaces=False)

    def _encode(self, contents: list[str]) -> Iterable[list[int]]:
        return iter([piece.ids for piece in self._plain_text.encode_batch(contents)])

    def _assemble(self, messages: Sequence[Message], contents: Iterable[list[int]]) -> RenderedConversation:
        input_ids: list[int] = []
        supervised: list[bool] = []
        for message, content in zip(messages, contents, strict=False):  # `contents` may go on with another conversation
            learned = message.role == "assistant"
            input_ids += [self.role_ids[message.role], *content, self.end_id]
            supervised += [False] + [learned] * (len(content) + 1)
        return RenderedConversation(input_ids=input_ids, supervised=supervised)


def mask_as_text(rendered: RenderedConversation, decode: Callable[[list[int]], str], *, colour: bool = False) -> str:
    """The conversation as text with what is learned made visible: green in a terminal, else in double brackets.

    Control characters, other than line breaks, are written as escapes: a terminal must not act on what a file says.
    """
    opening, closing = ("\x1b[32m", "\x1b[0m") if colour else ("[[", "]]")
    parts = []
    for learned, pairs in groupby(zip(rendered.input_ids, rendered.supervised, strict=True), key=lambda pair: pair[1]):
        text = printable(decode([token for token, _ in pairs]))
        parts.append(f"{opening}{text}{closing}" if learned else text)
    return "".join(parts)
