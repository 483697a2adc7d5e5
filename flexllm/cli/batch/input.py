"""The input of `flexllm batch`: its options, and the way from them to the rows."""

from __future__ import annotations

import argparse
import os
import sys

from ...language import _, mark, with_semicolons
from ..units import count, words
from .pictures import Pictures, add_picture_options

TYPE_CHECKING = False  # see errors.py

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, BinaryIO

    from ...batch.folders import FolderInput
    from ...batch.inputs import Input
    from ...batch.rows import FileRows
    from ...batch.shapes import Fields
    from ...config import ResolvedEndpoint
    from ...templates import UserTemplate

STANDARD_INPUT = mark("standard input")
MOST_OF_A_TEMPLATE = 1_000_000
"""Bytes. A file that is larger was not meant."""


def add_input_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say what is read, and how a row becomes a question."""
    group = parser.add_argument_group(
        _("input"),
        _(
            "JSON lines, a JSON array, or a table (.csv, .tsv), each also compressed by gzip; a workbook (.xlsx) or a Parquet "
            "file (.parquet); or a folder of pictures. The first line of a table names the fields."
        ),
    )
    group.add_argument("-n", "--limit", type=count, metavar="N", help=_("take only the first N rows"))
    group.add_argument(
        "--format", default="auto", choices=("auto", "openai_chat", "openai_batch", "alpaca", "simple"),
        help=_("the shape of the rows (auto: found from the first)"),
    )  # fmt: skip
    group.add_argument(
        "--input-type", choices=("jsonl", "csv", "tsv"),
        help=_("what the input is written in, where its name does not say it, as that of a pipe (jsonl)"),
    )  # fmt: skip
    group.add_argument("--sheet", type=words, metavar="NAME", help=_("the sheet of a workbook (its first)"))
    group.add_argument("--system", type=words, metavar="TEXT", help=_("a system message for rows that have none"))
    group.add_argument(
        "--user-field", type=words, metavar="NAME",
        help=_("the field that holds the question, whatever the shape of the rows"),
    )  # fmt: skip
    group.add_argument(
        "--system-field",
        type=words,
        metavar="NAME",
        help=_("the field that holds the system message of its row (system)"),
    )
    group.add_argument(
        "--user-template", metavar="TEXT",
        help=_("put this around each question: {content} is the question, {NAME} the field of that name; without "
        "{content} the question is made of fields alone. {{NAME}} stays as it is in single braces. @FILE reads it from a "
        "file"),
    )  # fmt: skip
    add_picture_options(parser)


class BatchInput:
    """What a batch reads.

    Args:
        args: With `input` and the options of `add_input_options`.
        keeps_fields: The metadata of a row are to have all of its fields, those that are asked too.

    Attributes:
        name: What messages call it.
        is_pipe: It can be read only once, and nobody knows how many rows will come.

    Raises:
        InputError: There is none, or it cannot be opened; or the file of the template cannot be read.
        ConfigError: The options do not go together.
    """

    def __init__(self, args: argparse.Namespace, *, keeps_fields: bool) -> None:
        from ...batch.rows import check_reading
        from ...batch.shapes import Fields
        from ...errors import ConfigError, InputError

        self._args = args
        self._keeps_fields = keeps_fields
        self._was_read = False
        self._fields: Fields = Fields(args.user_field, args.system_field)
        for option, field in (("--user-field", args.user_field), ("--system-field", args.system_field)):
            if field is not None and not field.strip():
                raise ConfigError(
                    _("{option} is given but empty; name a field of the rows, or leave it out", option=option)
                )
        self._template = None if args.user_template is None else read_template(args.user_template)
        check_reading(args.format, self._fields, self._template)
        self._file = None if args.input in (None, "-") else os.path.expanduser(args.input)
        self.name = _(STANDARD_INPUT) if self._file is None else str(args.input)
        self.is_pipe = self._file is None or _is_device(self._file)
        self._pictures = Pictures(args, self._file)
        if self._pictures.is_folder:
            self._folder()
        elif not self.is_pipe:
            self._open().close()
        elif self._file is None and (sys.stdin is None or sys.stdin.isatty()):
            raise InputError(_("no input: name a file of questions, or pipe one in"))

    def refuse_as_output(self, path: str | os.PathLike[str]) -> None:
        """Raise InputError if that file, which is to be written, is the one that is read."""
        from ...errors import InputError

        try:
            read = os.fstat(0) if self._file is None else os.stat(self._file)
            is_same = os.path.samestat(read, os.stat(path))
        except OSError:  # one of them is not there
            return
        if is_same and not _is_device(path):
            name = os.fspath(path)
            raise InputError(_("{name} is both input and output; name another output file", name=name))

    def rows(self, endpoint: ResolvedEndpoint | None, model: str, params: Mapping[str, Any]) -> FileRows:
        """Return the rows, anew at each call; a pipe only once.

        Args:
            endpoint: Its system message and its template hold where no option says otherwise; None for a pool.
            model: For rows that name none.
            params: The endpoint's parameters, and over them those of the command line.

        Raises:
            InputError: It cannot be read or understood; nothing was sent.
            ConfigError: The endpoint's template does not go together with the options; or neither `model` nor the first row
                of those that may do so names one.
        """
        from ...batch.openai_rows import OwnSettingsRows, names_model
        from ...batch.rows import FileRows, RowReader, UnfitRows
        from ...errors import ConfigError, InputError
        from ..request_options import request_params

        args = self._args
        source, total = self._source()
        template = self._pictures.template(self._template_for(endpoint))
        try:
            reader = RowReader(
                source,
                self.name,
                shape=args.format,
                system=self._system(endpoint),
                fields=self._fields,
                template=template,
                keeps_fields=self._keeps_fields,
                parse=source.parse,
            )
        except UnfitRows as error:
            raise InputError(with_semicolons([str(error), self._hint(template, source.kind)])) from None
        if self._pictures.field is not None:
            return self._pictures.rows(reader, model, params, total)
        if reader.shape != "openai_batch":
            return FileRows(reader, model, params, total)
        keeps_model = args.model is not None or endpoint is None  # a pool's endpoints have their own names for it
        if not model and not keeps_model and reader.first(names_model) is False:
            raise ConfigError(
                _(
                    "{name}: the first row names no model, and nothing else does; set FLEXLLM_MODEL for such rows, "
                    "or give -m NAME to ask all rows of one",
                    name=self.name,
                )
            )
        flags = request_params(args, {})
        return OwnSettingsRows(reader, model, params, total, flags=flags, keeps_model=keeps_model)

    def _hint(self, template: UserTemplate | None, kind: str) -> str:
        """Return what may help where no row can be read."""
        if any(self._fields) or template is not None:
            return _("--user-field, --system-field and the template say which fields a row must have")
        if kind == "jsonl":
            return _("--user-field names the field of the question, and a table is read by --input-type csv")
        return _("--user-field names the field of the question")

    def _system(self, endpoint: ResolvedEndpoint | None) -> str | None:
        if self._args.system is not None:
            return self._args.system or None  # an empty one takes that of the configuration away
        return None if endpoint is None else endpoint.system

    def _template_for(self, endpoint: ResolvedEndpoint | None) -> UserTemplate | None:
        from ...templates import UserTemplate

        if self._args.user_template is not None:
            return self._template
        if endpoint is None or endpoint.user_template is None:
            return None
        return UserTemplate(endpoint.user_template)

    def _source(self) -> tuple[Input | FolderInput, int | None]:
        """Return the open input and its number of rows, None for a pipe."""
        from ...errors import InputError

        if self._pictures.is_folder:
            return self._folder()
        if not self.is_pipe:
            total = self._input(self._open()).count()
            return self._input(self._open()), total
        if self._was_read:
            raise InputError(
                _("{name} is a pipe, which can be read only once; put the rows into a file", name=self.name)
            )
        self._was_read = True
        return self._input(self._open()), None

    def _folder(self) -> tuple[FolderInput, int]:
        from ...batch.folders import FolderInput

        assert self._file is not None
        found = FolderInput(self._file, recursive=self._args.recursive is not False)
        return found, found.count()

    def _input(self, file: BinaryIO) -> Input:
        from ...batch.inputs import Input, kind_of
        from ...errors import ConfigError

        args = self._args
        found = Input(file, self.name, args.input_type or kind_of(self._file or ""), sheet=args.sheet or 0)
        if args.sheet is not None and found.kind != "xlsx":
            found.close()
            raise ConfigError(_("--sheet is for workbooks, and {name} is none", name=self.name))
        return found

    def _open(self) -> BinaryIO:
        from ...errors import InputError
        from ...system_errors import reason_of

        if self._file is None:
            # A reader of its own: the interpreter's is locked at exit, while a thread may still wait for a line.
            return open(0, "rb", buffering=1 << 16, closefd=False)
        try:
            return open(self._file, "rb", buffering=1 << 18)
        except OSError as error:
            reason = _("{name} cannot be read: {reason}", name=self.name, reason=reason_of(error))
            raise InputError(reason) from None


def read_template(text: str) -> UserTemplate | None:
    """Return the template that a text, or @FILE, is; None for an empty one. `@@` begins a text with an @.

    Raises:
        InputError: The file cannot be read.
        ConfigError: There is no place in it.
    """
    from ...errors import ConfigError, InputError
    from ...system_errors import reason_of
    from ...templates import UserTemplate

    if text.startswith("@@"):
        text = text[1:]
    elif text.startswith("@"):
        name = text[1:]
        try:
            with open(os.path.expanduser(name), "rb") as file:
                data = file.read(MOST_OF_A_TEMPLATE + 1)
        except OSError as error:
            reason = _("the template {name} cannot be read: {reason}", name=name, reason=reason_of(error))
            raise InputError(reason) from None
        if len(data) > MOST_OF_A_TEMPLATE:
            raise InputError(_("the template {name} is larger than a megabyte; that cannot have been meant", name=name))
        try:
            text = data.decode("utf-8-sig").removesuffix("\n").removesuffix("\r")  # an editor's own
        except UnicodeDecodeError:
            raise InputError(_("the template {name} is not UTF-8; convert it with iconv", name=name)) from None
        if not text:
            raise ConfigError(_("the template {name} is empty", name=name))
    return UserTemplate(words(text)) if text else None


def _is_device(path: str | os.PathLike[str]) -> bool:
    """Return whether there is something that is neither a file nor a folder: a pipe, or /dev/null."""
    return os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path)
