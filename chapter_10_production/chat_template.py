"""A conversation as one text, which the model continues.

A language model knows no roles: a chat is a text in which people take turns, up to where it is the
assistant's. Large models are trained on the signs that mark the turns; ours are not, and go on as
with any other text, so the signs are plain words. Whoever writes such words into a message can
pretend to be anyone, as the model cannot tell the difference.
"""

from __future__ import annotations

from typing import Any, Sequence

from chapter_10_production.api_fields import Fields

ROLES = {"system": "System", "developer": "System", "user": "User", "assistant": "Assistant"}
NEXT_TURN = f"\n{ROLES['user']}:"  # where the assistant's turn is over
# What clients send back of an answer that they were given.
NEUTRAL = {"refusal": [""], "annotations": [[]], "tool_calls": [[]]}


def chat_prompt(messages: Sequence[tuple[str, str]]) -> str:
    """The text of (role, content) pairs, each a line "Role: content", up to the assistant's turn.

    Space around a content is dropped: an answer begins with the space after the colon, and reads
    the same when the client sends it back.
    """
    turns = [f"{ROLES[role]}: {content.strip()}" for role, content in messages]
    return "\n".join([*turns, f"{ROLES['assistant']}:"])


def messages_of(fields: Fields) -> list[tuple[str, str]]:
    """The (role, content) pairs of the parameter `messages`; BadRequest names what is wrong."""
    messages = fields.take("messages")
    if messages is None:
        raise fields.missing("messages")
    if not isinstance(messages, list) or not messages:
        raise fields.bad("messages", "a list of at least one message", messages)
    return [message_of(message, f"messages[{i}]") for i, message in enumerate(messages)]


def message_of(message: Any, name: str) -> tuple[str, str]:
    fields = Fields.of(message, name)
    role = fields.text("role")
    if role not in ROLES:
        raise fields.bad("role", "one of " + ", ".join(ROLES), role)
    content = fields.take("content")
    if isinstance(content, list):
        content = "".join([text_of(p, f"{name}.content[{i}]") for i, p in enumerate(content)])
    if content is None:
        raise fields.missing("content")
    if not isinstance(content, str):
        raise fields.bad("content", "a string, or a list of parts of type text", content)
    fields.ignore({"name": str}, NEUTRAL)
    fields.none_left()
    return role, content


def text_of(part: Any, name: str) -> str:
    fields = Fields.of(part, name)
    kind = fields.text("type")
    if kind != "text":
        raise fields.bad("type", "text, as the model reads nothing else", kind)
    text = fields.text("text")
    fields.none_left()
    return text
