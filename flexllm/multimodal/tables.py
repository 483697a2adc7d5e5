"""`MllmTableProcessor`: each row of a table asked, and the answers as a new column beside the others."""

from __future__ import annotations

import json
import os
from typing import Any

from ..batch.cells import plain
from ..batch.pictures import picture_parts
from ..errors import ConfigError, InputError
from ..language import _
from .frames import DataFrame, cells_of, check_column, check_frame, check_new_column, load_frame, with_columns
from .processor import Conversation, Processor, Refused, check_count, check_text, conversation

RESULT = "output"
"""The new column, as `flexllm batch` calls it."""


class MllmTableProcessor(Processor):
    """Asks each row of a table by the batch of a client. Needs pandas, openpyxl and pyarrow: the extra `table`.

    What comes back is the table with two columns more: the answers, None where a row failed, and behind them, under the same
    name with `_error`, why it failed, None where it did not. The caller's own frame is not changed.

    With `output_file="answers.jsonl"` a call that was stopped or killed goes on where it was. A row is known by what it asks:
    its text, and the paths of its pictures.
    """

    def load_dataframe(
        self, path: str | os.PathLike[str], sheet_name: str | int = 0, max_num: int | None = None
    ) -> DataFrame:
        """Return a table as a data frame of pandas.

        Args:
            path: A file that ends in .csv or .tsv (in UTF-8, also compressed by gzip), .xlsx or .parquet. Cells of the former
                are texts, exactly as they stand there; those of the latter two keep their types.
            sheet_name: Of a workbook: the name of the sheet, or its number from 0.
            max_num: The first so many rows; None for all.

        Raises:
            ConfigError: An argument is wrong, or the package that reads the file is not installed.
            InputError: The file cannot be read, is no table, or holds no rows.
        """
        check_count("max_num", max_num)
        if isinstance(sheet_name, bool) or not isinstance(sheet_name, (str, int)):
            raise ConfigError(
                _("sheet_name={sheet_name!r} must be the name of a sheet, or its number from 0", sheet_name=sheet_name)
            )
        return load_frame(os.path.expanduser(os.fspath(path)), sheet_name, max_num)

    def call_dataframe_sync(
        self,
        df: DataFrame,
        text_col: Any,
        image_col: Any = None,
        *,
        system_prompt: str | None = None,
        result_col: Any = RESULT,
        image_folder: str | os.PathLike[str] | None = None,
        **options: Any,
    ) -> Any:
        """Return a data frame with the answer to each row.

        Args:
            text_col: The column of the questions. Numbers are asked as they read; a row whose cell is empty fails.
            image_col: The column of the pictures: a path, a URL, a data URI, bytes, an image of Pillow, or a list of such. A row
                whose cell is empty is asked without one.
            system_prompt: Instead of the client's own system message.
            result_col: The new column.
            image_folder: Paths are relative to it; None for the working directory.
            options: Those of `LLMClient.chat_completions_batch_sync`: `output_file`, `show_progress`, `max_cost`, parameters
                of the request, ...; of `return_usage`, `return_summary` and `return_cost_report` the latter two give
                `(df, ...)`, as they do there.

        Raises:
            InputError: There is no such column, or there are two.
            ConfigError: The new column is there already, or an argument is wrong.
        """
        check_frame(df)
        _check_columns(df, (text_col,) if image_col is None else (text_col, image_col), result_col)
        texts = [_text_of(cell, text_col) for cell in cells_of(df, text_col)]
        pictures = [None] * len(df) if image_col is None else cells_of(df, image_col)
        folder = "" if image_folder is None else os.fspath(image_folder)
        rows = [
            text if isinstance(text, Refused) else _conversation(text, picture, folder, image_col, system_prompt)
            for text, picture in zip(texts, pictures, strict=True)
        ]
        return self._ask(df, rows, result_col, options)

    def call_table_sync(
        self,
        table_path: str | os.PathLike[str],
        text_col: Any,
        image_col: Any = None,
        *,
        sheet_name: str | int = 0,
        max_num: int | None = None,
        **options: Any,
    ) -> Any:
        """Return the table of a file with the answer to each row: `call_dataframe_sync` of `load_dataframe`.

        Paths of pictures are relative to the table's own folder, if `image_folder` names no other.
        """
        frame = self.load_dataframe(table_path, sheet_name, max_num)
        if options.get("image_folder") is None:
            options["image_folder"] = _folder_of(table_path)
        return self.call_dataframe_sync(frame, text_col, image_col, **options)

    def call_table_images_sync(
        self,
        table_path: str | os.PathLike[str],
        image_col: Any,
        text_prompt: str,
        *,
        system_prompt: str | None = None,
        result_col: Any = RESULT,
        image_folder: str | os.PathLike[str] | None = None,
        sheet_name: str | int = 0,
        max_num: int | None = None,
        **options: Any,
    ) -> Any:
        """Return the table of a file with the answer about the picture of each row, the same question of all.

        Arguments are those of `call_table_sync`. A row whose cell is empty fails.
        """
        check_text("text_prompt", text_prompt)
        frame = self.load_dataframe(table_path, sheet_name, max_num)
        _check_columns(frame, (image_col,), result_col)
        folder = _folder_of(table_path) if image_folder is None else os.fspath(image_folder)
        rows = [
            Refused(_("{column!r} is empty in this row", column=image_col))
            if _is_empty(cell)
            else _conversation(text_prompt, cell, folder, image_col, system_prompt)
            for cell in cells_of(frame, image_col)
        ]
        return self._ask(frame, rows, result_col, options)

    def _ask(self, frame: DataFrame, rows: list[Conversation], result_col: str, options: dict[str, Any]) -> Any:
        """Return the frame with the answers; behind it, in a tuple, what options asked for besides."""
        found = self._client.chat_completions_batch_sync(rows, **options)
        result, *extras = found if isinstance(found, tuple) else (found,)
        errors = [None if item.error is None else f"{type(item.error).__name__}: {item.error}" for item in result.items]
        answered = with_columns(frame, {result_col: list(result), _error_col(result_col): errors})
        return (answered, *extras) if extras else answered

    async def call_dataframe(self, df: DataFrame, text_col: Any, image_col: Any = None, **options: Any) -> Any:
        """Await `call_dataframe_sync`."""
        return await self._awaited(self.call_dataframe_sync, df, text_col, image_col, **options)

    async def call_table(
        self, table_path: str | os.PathLike[str], text_col: Any, image_col: Any = None, **options: Any
    ) -> Any:
        """Await `call_table_sync`."""
        return await self._awaited(self.call_table_sync, table_path, text_col, image_col, **options)

    async def call_table_images(
        self, table_path: str | os.PathLike[str], image_col: Any, text_prompt: str, **options: Any
    ) -> Any:
        """Await `call_table_images_sync`."""
        return await self._awaited(self.call_table_images_sync, table_path, image_col, text_prompt, **options)


def _check_columns(frame: DataFrame, columns: tuple[Any, ...], result_col: object) -> None:
    if not isinstance(result_col, str) or not result_col:
        raise ConfigError(_("result_col={name!r} must be the name of a column", name=result_col))
    for column in columns:
        check_column(frame, column)
    for name in (result_col, _error_col(result_col)):
        check_new_column(frame, name)


def _error_col(result_col: str) -> str:
    return f"{result_col}_error"


def _folder_of(table_path: str | os.PathLike[str]) -> str:
    return os.path.dirname(os.path.expanduser(os.fspath(table_path)))


def _text_of(cell: Any, column: Any) -> str | Refused:
    """Return a cell as words, or why it has none."""
    try:
        value = plain(cell)
        text = value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    except (ValueError, RecursionError):  # of a number with thousands of digits, or a list that holds itself
        kind = type(cell).__name__
        return Refused(_("{column!r} cannot be made a text: it is of type {kind}", column=column, kind=kind))
    if text is None or not text.strip():
        return Refused(_("{column!r} is empty in this row", column=column))
    return text


def _is_empty(cell: Any) -> bool:
    """Return whether a cell holds no picture."""
    if isinstance(cell, str):
        return not cell.strip()
    return cell is None or (isinstance(cell, (bytes, list, tuple, dict)) and not cell)


def _conversation(text: str, cell: Any, folder: str, column: Any, system_prompt: str | None) -> Conversation:
    try:
        return conversation(text, picture_parts(cell, folder), system_prompt)
    except InputError as error:
        return Refused(_("in {column!r}, {error}", column=column, error=error))
