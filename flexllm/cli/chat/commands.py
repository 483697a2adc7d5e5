"""What begins with a slash: commands to the chat itself, and what Tab makes of a line that begins so."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from ...cost import CostReport
from ...errors import FlexLLMError
from ...language import _, mark, plural
from ...terminal import padded
from ..output import complain, talk
from ..tables import shortened
from .saved import SavedFiles
from .session import ChatSession

_KEYS = (
    (mark("\\ at the end"), mark("the next line belongs to the same message")),
    ('""" ... """', mark("so do all lines in between; pasted lines do anyway")),
    ("//", mark("a message that begins with a slash")),
    ("Ctrl-C", mark("end the answer, or clear what is being written")),
)


class Command(NamedTuple):
    """One command.

    Attributes:
        run: Takes what stands behind the name; returns the content to be asked next, None for nothing.
        argument: How help shows what stands behind the name.
    """

    name: str
    argument: str
    help: str
    run: Callable[[str], object]


class Commands:
    """The commands of one chat.

    Args:
        models: The ids of the configuration.
        cost: What the chat has cost.
    """

    def __init__(self, session: ChatSession, models: Sequence[str], cost: Callable[[], CostReport]) -> None:
        self.has_ended = False
        self._session = session
        self._models = models
        self._cost = cost
        self._files = SavedFiles()
        self._commands = {
            one.name: one
            for one in (
                Command("/help", "", _("tell what there is"), self._help),
                Command("/system", "[TEXT]", _("show the system message, or set it; - removes it"), self._system),
                Command("/model", "[NAME]", _("show the model, or go on with another one"), self._model),
                Command(
                    "/save", "[FILE]", _("save the conversation as JSON; /save! overwrites other files"), self._save
                ),
                Command("/save!", "FILE", "", self._save_over),
                Command("/load", "FILE", _("go on with a conversation that was saved"), self._load),
                Command("/undo", "", _("forget the last question and its answer"), self._undo),
                Command("/retry", "", _("ask the last question again"), self._retry),
                Command("/clear", "", _("forget all that was said; the system message stays"), self._clear),
                Command("/cost", "", _("tell what this chat has cost"), self._tell_cost),
                Command("/exit", "", _("end the chat; so does Ctrl-D"), self._exit),
                Command("/quit", "", "", self._exit),
            )
        }

    def obey(self, line: str) -> object:
        """Do what a line says that begins with a slash. Return the content to be asked next, None for nothing.

        Whatever goes wrong is told in a sentence.
        """
        name, *rest = line.split(None, 1)
        command = self._commands.get(name.lower())
        if command is None:
            self._tell_unknown(name)
            return None
        try:
            return command.run(rest[0].strip() if rest else "")
        except FlexLLMError as error:
            complain(error)
            return None

    def completions(self, line: str) -> list[str]:
        """Return the lines that Tab may make of `line`, sorted; none where it is not a command's."""
        if not line.startswith("/") or line.startswith("//"):
            return []
        name, blank, rest = line.partition(" ")
        if not blank:
            known = [f"{one.name} " if one.argument else one.name for one in self._commands.values() if one.help]
            return sorted(one for one in known if one.startswith(name))
        if name == "/model":
            return [f"{name} {one}" for one in sorted(self._models) if one.startswith(rest)]
        if name in ("/save", "/save!", "/load"):
            return [f"{name} {path}" for path in _paths(rest)]
        return []

    def _tell_unknown(self, name: str) -> None:
        near = difflib.get_close_matches(name.lower(), self._commands, n=1)
        shown = shortened(name)
        if near:
            talk(
                _("There is no {name}; did you mean {nearest}? /help tells what there is.", name=shown, nearest=near[0])
            )
        else:
            talk(
                _(
                    "There is no {name}; /help tells what there is, and a text that begins with a slash is written with two.",
                    name=shown,
                )
            )

    # --- one by one

    def _help(self, _argument: str) -> None:
        told = [(f"{one.name} {one.argument}", one.help) for one in self._commands.values() if one.help]
        for name, meaning in (*told, *((_(key), _(text)) for key, text in _KEYS)):
            talk(f"  {padded(name, 15)} {meaning}")

    def _system(self, text: str) -> None:
        if text:
            self._session.set_system(None if text == "-" else text)
        system = self._session.conversation.system
        talk(_("The system message is: {system}", system=system) if system else _("There is no system message."))

    def _model(self, name: str) -> None:
        if name:
            self._session.switch(name)
        partner = self._session.partner
        talk(_("The model is {name} at {place}.", name=partner.name, place=partner.place))
        if name and self._models and name not in self._models:
            near = difflib.get_close_matches(name, self._models, n=1)
            if near:
                talk(_("It is none of the configuration; did you mean {nearest}?", nearest=near[0]))
            else:
                talk(_("It is none of the configuration."))
        elif not name and self._models:
            talk(
                _(
                    "The configuration has: {models}. Any other name is asked at the same server.",
                    models=", ".join(self._models),
                )
            )

    def _save(self, name: str) -> None:
        self._save_to(name or self._files.last, overwrite=False)

    def _save_over(self, name: str) -> None:
        self._save_to(name, overwrite=True)

    def _save_to(self, name: str | None, *, overwrite: bool) -> None:
        if not name:
            talk(_("Name the file: /save FILE"))
            return
        conversation = self._session.conversation
        self._files.save(name, conversation.as_json(self._session.partner.name), overwrite=overwrite)
        number = len(conversation.messages)
        talk(plural("Saved {count:,} message to {name}.", "Saved {count:,} messages to {name}.", number, name=name))

    def _load(self, name: str) -> None:
        if not name:
            talk(_("Name the file: /load FILE"))
            return
        self._session.load(self._files.load(name), name)
        self._files.own(name)
        conversation = self._session.conversation
        number = len(conversation.messages)
        if conversation.is_answered:
            told = plural(
                "Loaded {count:,} message from {name}.", "Loaded {count:,} messages from {name}.", number, name=name
            )
        else:
            told = plural(
                "Loaded {count:,} message from {name}. The last question has no answer; /retry asks it.",
                "Loaded {count:,} messages from {name}. The last question has no answer; /retry asks it.",
                number, name=name,
            )  # fmt: skip
        talk(told)

    def _undo(self, _argument: str) -> None:
        content = self._session.conversation.undo()
        if content is None:
            talk(_("There is nothing to forget."))
        else:
            talk(_("Forgotten: {question}", question=_short(content)))

    def _retry(self, _argument: str) -> object:
        content = self._session.retry()
        if content is None:
            talk(_("There is no question to ask again."))
        return content

    def _clear(self, _argument: str) -> None:
        self._session.clear()
        talk(_("All that was said is forgotten."))

    def _tell_cost(self, _argument: str) -> None:
        talk(str(self._cost()))

    def _exit(self, _argument: str) -> None:
        self.has_ended = True


def _paths(start: str) -> Iterable[str]:
    """Return what a path may be completed to, folders with a slash behind them."""
    folder, name = os.path.split(start)
    try:
        with os.scandir(os.path.expanduser(folder or ".")) as entries:
            found = [(one.name, one.is_dir()) for one in entries if one.name.startswith(name)]
    except (OSError, ValueError):
        return []
    shown = [(os.path.join(folder, one), is_folder) for one, is_folder in found if name or not one.startswith(".")]
    return sorted(f"{path}/" if is_folder else path for path, is_folder in shown)


def _short(content: object) -> str:
    text = content if isinstance(content, str) else _("a question with files")
    return shortened(text)
