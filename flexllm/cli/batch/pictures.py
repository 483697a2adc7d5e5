"""The pictures of `flexllm batch`: those of a folder, or of a field of the rows, and what is asked about them."""

from __future__ import annotations

import argparse
import os

from ...language import _
from ..units import words

TYPE_CHECKING = False  # see errors.py

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from ...batch.pictures import PictureRows
    from ...batch.rows import RowReader
    from ...batch.shapes import Row
    from ...templates import UserTemplate


def add_picture_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say where pictures are, and what is asked about them."""
    group = parser.add_argument_group(
        _("pictures"),
        _(
            "INPUT may be a folder: each picture in it is a row, whose field 'file' is its name. A picture is known by its "
            "path, as it was named."
        ),
    )
    group.add_argument(
        "--prompt", type=words, metavar="TEXT", help=_("what is asked about each picture, the same of all")
    )
    group.add_argument(
        "--image-field", type=words, metavar="NAME",
        help=_("the field that holds the picture of its row: a path, which is relative to the folder of INPUT, or a URL"),
    )  # fmt: skip
    group.add_argument(
        "--recursive", action=argparse.BooleanOptionalAction, default=None,
        help=_("look for pictures in the folders of a folder too, but for hidden ones (on)"),
    )  # fmt: skip


class Pictures:
    """What goes along with the text of each row.

    Args:
        args: With `input` and the options of `add_picture_options`.
        file: The input file or folder; None for standard input.

    Attributes:
        is_folder: The input is a folder of pictures.
        field: The field that holds them; None where there are none.

    Raises:
        ConfigError: The options do not go together.
    """

    def __init__(self, args: argparse.Namespace, file: str | None) -> None:
        from ...batch.folders import FILE

        self._args = args
        self.is_folder = file is not None and os.path.isdir(file)
        self.field: str | None = FILE if self.is_folder else args.image_field
        self._folder = (file if self.is_folder else os.path.dirname(file)) if file is not None else ""
        self._check()

    def template(self, around: UserTemplate | None) -> UserTemplate | None:
        """Return what makes the question of a row.

        Args:
            around: The template of the options or of the configuration; it goes around what --prompt asks.

        Raises:
            ConfigError: There is no question, or the template has places that nothing fills.
        """
        from ...batch.shapes import Prompt
        from ...errors import ConfigError
        from ...templates import CONTENT

        prompt = self._args.prompt
        if prompt is None:
            if self.is_folder and (around is None or CONTENT in around.names):
                raise ConfigError(
                    _("{name} is a folder of pictures, and nothing is asked about them: give --prompt TEXT",
                      name=self._args.input)
                )  # fmt: skip
            return around
        if around is None:
            return Prompt(prompt)
        if around.names != (CONTENT,):
            raise ConfigError(
                _(
                    "the template of the configuration has places for fields, which --prompt does not fill; give an empty "
                    "--user-template to leave it out"
                )
            )
        return Prompt(around.fill({CONTENT: prompt}))

    def rows(self, reader: RowReader, model: str, params: Mapping[str, Any], total: int | None) -> PictureRows:
        """Return the rows with their pictures.

        Raises:
            InputError: No row has the field that holds them.
            ConfigError: The rows are requests that hold their pictures themselves.
        """
        from ...batch.pictures import PictureRows
        from ...errors import ConfigError, InputError

        field = self.field
        assert field is not None
        if reader.shape == "openai_batch":
            raise ConfigError(
                _("rows of the format openai_batch hold their pictures themselves; leave --image-field out")
            )
        if not self.is_folder and not reader.first(lambda row: True if field in row else None):
            fields: dict[str, None] = reader.first(dict.fromkeys) or {}
            raise InputError(_no_such_field(str(self._args.input or "-"), field, fields))
        needs_picture = self._args.prompt is not None
        return PictureRows(reader, model, params, total, field=field, folder=self._folder, needs_picture=needs_picture)

    def _check(self) -> None:
        from ...errors import ConfigError

        args = self._args
        for option, text in (("--prompt", args.prompt), ("--image-field", args.image_field)):
            if text is not None and not text.strip():
                raise ConfigError(_("{option} is given but empty; say something, or leave it out", option=option))
        if self.is_folder:
            self._refuse({
                "--image-field": args.image_field, "--user-field": args.user_field, "--system-field": args.system_field,
                "--input-type": args.input_type, "--sheet": args.sheet,
                "--format": None if args.format == "auto" else args.format,
            }, _("{option} is for rows with fields, and {name} is a folder of pictures"))  # fmt: skip
        elif args.recursive is not None:
            raise ConfigError(_("--recursive is for folders, and {name} is none", name=args.input or "-"))
        elif args.prompt is not None and self.field is None:
            raise ConfigError(
                _(
                    "--prompt asks the same of every row, about its picture: name a folder of pictures, or --image-field; "
                    "a question that is made of the row's fields is a --user-template"
                )
            )
        if args.prompt is not None:
            self._refuse({
                "--user-field": args.user_field, "--user-template": args.user_template or None,
                "--format": None if args.format == "auto" else args.format,
            }, _("--prompt is the whole question; leave it or {option} out"))  # fmt: skip

    def _refuse(self, options: Mapping[str, Any], reason: str) -> None:
        from ...errors import ConfigError

        option = next((option for option, value in options.items() if value is not None), None)
        if option is not None:
            raise ConfigError(reason.format(option=option, name=self._args.input))


def _no_such_field(name: str, field: str, fields: Row | dict[str, None]) -> str:
    import difflib

    from ...batch.shapes import names_of

    near = difflib.get_close_matches(field, fields, n=1)
    if near:
        return _(
            "{name}: no row has {field!r}; did you mean {near!r}? nothing was sent",
            name=name,
            field=field,
            near=near[0],
        )
    return _(
        "{name}: no row has {field!r}, only {fields}; nothing was sent", name=name, field=field, fields=names_of(fields)
    )
