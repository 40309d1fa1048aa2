"""Which answers the current request opened, for the line that a server writes about it."""

from contextvars import ContextVar

from serve_app.speech.answer import Answer

opened_answers: ContextVar[list[Answer] | None] = ContextVar("csm_opened_answers", default=None)
"""A list that whoever handles a request sets, for its task and those that it starts. None: nobody asks."""


def note_opened(answer: Answer) -> None:
    if (answers := opened_answers.get()) is not None:
        answers.append(answer)
