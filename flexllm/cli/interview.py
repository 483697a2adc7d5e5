"""The questions of `flexllm init`: whom to ask, with which key, for which model.

Imported when a command runs, not when the parser is made. Who is asked, and by what means, is the caller's business.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol
from urllib.parse import urlsplit

from ..configfile.checks import checked_pair
from ..errors import AuthenticationFailed, ConfigError, FlexLLMError, MalformedResponse, NotFound, PermissionDenied
from ..language import _, plural
from ..terminal import padded, width
from ..wire import NO_KEY
from .checkup import other_urls
from .first_config import SERVICES, FirstModel, Service, literal_key
from .servers import shown

MOST_SHOWN = 15
"""Models that are shown at once: with the questions they fit on a screen."""

YES = ("y", "yes", "是")
"""What agrees to a question, in small letters: in any language, for the questions show [y/N] in all."""

_VARIABLE = re.compile(r"(?:env:|\$)\{?([A-Za-z_][A-Za-z0-9_]*)\}?")


class Person(Protocol):
    """Somebody who is asked. Raises EOFError when he has gone."""

    def tell(self, text: str) -> None:
        """Show lines."""

    def ask(self, question: str) -> str:
        """Show a question, and return the line that is typed, without blanks around it."""

    def ask_secret(self, question: str) -> str:
        """The same, but what is typed is not shown."""


Lister = Callable[[str, str, str], list[str]]
"""Returns the models that a server lists, of its base URL, key and provider. Raises FlexLLMError."""


def interview(person: Person, models_of: Lister, environ: Mapping[str, str]) -> FirstModel:
    """Ask for all that a first configuration needs.

    Raises:
        EOFError: The person has gone.
    """
    service = _service(person)
    base_url = _base_url(person, service)
    while True:
        key = _key(person, service, base_url, environ)
        if key.value is None:
            listed: Sequence[str] = ()
            break
        try:
            base_url, listed = _look_up(person, models_of, service, base_url, key.value)
            break
        except FlexLLMError as error:
            person.tell(shown(_("The list of models is not to be had: {error}.", error=error)))
            listed = ()
            if isinstance(error, (AuthenticationFailed, PermissionDenied)):
                if not _agrees(person, _("Give another key?")):
                    break
            elif _agrees(person, _("Give another base URL?"), default=False):
                base_url = _base_url(person, service)
            else:
                break
    name = _model(person, service, listed)
    return FirstModel(name=name, provider=service.provider, base_url=base_url, api_key=key.written)


def _look_up(
    person: Person, models_of: Lister, service: Service, base_url: str, api_key: str
) -> tuple[str, Sequence[str]]:
    """Return the models of a server, and the base URL at which it lists them: often the version path was left out.

    Raises:
        FlexLLMError: It does not list them at the URL that was typed, nor at another one.
    """
    try:
        return base_url, models_of(base_url, api_key, service.provider)
    except (NotFound, MalformedResponse) as error:
        for url in other_urls(base_url) if service.provider == "openai" else ():
            try:
                listed = models_of(url, api_key, service.provider)
            except FlexLLMError:
                continue
            person.tell(_("The server lists its models at {url}; that is taken as the base URL.", url=url))
            return url, listed
        raise error from None


def _agrees(person: Person, question: str, *, default: bool = True) -> bool:
    answer = person.ask(f"{question} [{'Y/n' if default else 'y/N'}] ").lower()
    return default if not answer else answer in YES


def _service(person: Person) -> Service:
    person.tell(_("Whom do you want to ask?"))
    titles = {_(service.title): service for service in SERVICES}
    columns = max(map(width, titles))
    for number, (title, service) in enumerate(titles.items(), 1):
        where = service.base_url or _("any that speaks OpenAI's format")
        person.tell(f"  {number:2}  {padded(title, columns)}  {where}")
    while True:
        text = person.ask(_("A number [{default}]:", default=1) + " ") or "1"
        named = [one for title, one in titles.items() if title.lower().startswith(text.lower())]
        if text.isdecimal() and 1 <= int(text) <= len(SERVICES):
            return SERVICES[int(text) - 1]
        if len(named) == 1:
            return named[0]
        person.tell(_("Please type a number from 1 to {count}.", count=len(SERVICES)))


def _base_url(person: Person, service: Service) -> str:
    if service.note:
        person.tell(_(service.note))
    default = service.base_url
    while True:
        question = _("Base URL (such as http://host:8000/v1):")
        if default:
            question = _("Base URL [{default}]:", default=default)
        text = person.ask(f"{question} ") or default or ""
        try:
            url = checked_pair(with_scheme(text), NO_KEY, _("This"))[0]
            if url:
                return url
            person.tell(_("Please type the URL of the server."))
        except ConfigError as error:
            person.tell(shown(_("{error}.", error=error)))


def with_scheme(text: str) -> str:
    """Return a URL as it was typed, with http:// or https:// in front where that was left out."""
    if not text or "://" in text:
        return text
    host = text.partition("/")[0].partition(":")[0]
    return f"{'http' if host in ('localhost', '127.0.0.1') else 'https'}://{text}"


class _Key:
    """A key as it is to stand in the file, and as it is now; None if that is not known."""

    def __init__(self, written: str, value: str | None) -> None:
        self.written = written
        self.value = value


def _key(person: Person, service: Service, base_url: str, environ: Mapping[str, str]) -> _Key:
    variable = service.variable_in(environ)
    is_its_own = urlsplit(base_url).hostname == urlsplit(service.base_url or "").hostname
    if variable is not None and is_its_own and environ.get(variable, "").strip():
        question = _("{variable} is set here. Use it by that name, so that the file holds no key?", variable=variable)
        if _agrees(person, question):
            return _Key(f"${{{variable}}}", environ[variable].strip())
    if variable is None:
        person.tell(_("API key: Enter if the server asks for none. It is not shown as you type."))
    else:
        person.tell(
            _("API key: Enter takes it from {variable} each time. It is not shown as you type.", variable=variable)
        )
    person.tell(_("($NAME takes it from the environment variable NAME, and the file then holds no key.)"))
    while True:
        text = person.ask_secret(_("API key:") + " ").strip()
        if not text:
            return _Key(NO_KEY, NO_KEY) if variable is None else _of_variable(person, variable, environ)
        named = _VARIABLE.fullmatch(text)
        if named:
            return _of_variable(person, named[1], environ)
        try:
            checked_pair(None, text, _("This"))
        except ConfigError as error:
            person.tell(_("{error}.", error=error))
        else:
            return _Key(literal_key(text), text)


def _of_variable(person: Person, name: str, environ: Mapping[str, str]) -> _Key:
    value = environ.get(name, "").strip()
    if not value:
        person.tell(_("{name} is not set here: set it before you ask.", name=name))
    return _Key(f"${{{name}}}", value or None)


def _model(person: Person, service: Service, listed: Sequence[str]) -> str:
    default = service.model
    choices = listed
    if listed:
        if default not in listed:
            default = listed[0] if len(listed) == 1 else None
        _show_models(person, listed, plural("The server has:", "The server has {count} models:", len(listed)))
        question = _("Model: a number, a name, or a part of one to look for it")
    else:
        question = _("Model")
    asked = (
        _("{question} [{default}]:", question=question, default=default)
        if default
        else _("{question}:", question=question)
    )
    while True:
        text = person.ask(f"{asked} ") or default or ""
        if not text:
            person.tell(_("Please type the name of a model."))
        elif not text.isprintable():
            person.tell(_("That holds a key that is no letter, such as an arrow; please type it again."))
        elif text.isdecimal() and 1 <= int(text) <= min(len(choices), MOST_SHOWN):
            return choices[int(text) - 1]
        elif not listed or text in listed:
            return text
        elif found := [name for name in listed if text.lower() in name.lower()]:
            choices = found
            _show_models(person, found, _("There are:"))
        elif _agrees(person, _("The server does not list it. Take it all the same?"), default=False):
            return text


def _show_models(person: Person, names: Sequence[str], head: str) -> None:
    person.tell(head)
    for number, name in enumerate(names[:MOST_SHOWN], 1):
        person.tell(f"  {number:2}  {shown(name)}")
    if len(names) > MOST_SHOWN:
        person.tell("  " + _("and {count} more", count=len(names) - MOST_SHOWN))
