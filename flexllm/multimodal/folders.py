"""`MllmFolderProcessor`: one question about each picture of a folder, or of a list."""

from __future__ import annotations

import os
from collections.abc import Iterable
from itertools import islice
from typing import Any

from ..batch.folders import image_files as find_images
from ..batch.pictures import picture_parts
from ..errors import ConfigError, InputError
from ..language import _
from .processor import Conversation, Processor, Refused, check_count, check_text, conversation


class MllmFolderProcessor(Processor):
    """Asks about each picture of a folder, or of a list of files, by the batch of a client.

    Pictures are read when they are asked, each by itself. One that has vanished or is none fails its own row alone. With
    `output_file="answers.jsonl"` a call that was stopped or killed goes on where it was: a picture is known by its path, as it
    was named, and by the question.
    """

    def scan_folder_images(
        self,
        folder: str | os.PathLike[str],
        recursive: bool = True,
        max_num: int | None = None,
        extensions: Iterable[str] | None = None,
    ) -> list[str]:
        """Return the paths of the pictures in a folder, each with the folder in front, in the order of their letters.

        Hidden files and folders are left out, and folders that are symbolic links are not entered.

        Args:
            recursive: Folders in it are looked into too.
            max_num: The first so many; None for all.
            extensions: Suffixes such as "jpg", in any case of letters; None for those of all pictures but SVG.

        Raises:
            InputError: The folder, or one in it, cannot be read.
            ConfigError: An argument is none.
        """
        check_count("max_num", max_num)
        place = _place_of(folder)
        found = find_images(place, recursive=recursive, extensions=extensions)
        return [os.path.join(place, name) for name in islice(found, max_num)]

    def call_folder_images_sync(
        self,
        folder: str | os.PathLike[str],
        text_prompt: str,
        system_prompt: str | None = None,
        recursive: bool = True,
        *,
        max_num: int | None = None,
        extensions: Iterable[str] | None = None,
        **options: Any,
    ) -> Any:
        """Return the answers about the pictures of a folder, in the order of `scan_folder_images`.

        Arguments are those of `scan_folder_images` and `call_image_files_sync`; so is what is returned, with the name below
        the folder as `metadata["file"]`.

        Raises:
            InputError: The folder cannot be read, or there are no pictures in it.
        """
        files = self.scan_folder_images(folder, recursive, max_num, extensions)
        if not files and max_num != 0:
            raise InputError(_("{folder} is a folder without pictures; nothing was sent", folder=os.fspath(folder)))
        place = _place_of(folder)
        options.setdefault("metadata_list", [{"file": os.path.relpath(file, place)} for file in files])
        return self.call_image_files_sync(files, text_prompt, system_prompt, **options)

    def call_image_files_sync(
        self,
        image_files: Iterable[Any],
        text_prompt: str,
        system_prompt: str | None = None,
        **options: Any,
    ) -> Any:
        """Return the answers about pictures, in their order.

        Args:
            image_files: Paths or URLs; data URIs, bytes and images of Pillow too.
            text_prompt: What is asked about each.
            system_prompt: Instead of the client's own system message.
            options: Those of `LLMClient.chat_completions_batch_sync`: `output_file`, `show_progress`, `max_cost`, parameters
                of the request, ...

        Returns:
            What `chat_completions_batch_sync` returns: a `BatchResult`, which is a list of texts with None where a row
            failed; each of its `items` has the picture as `metadata["file"]`.

        Raises:
            ConfigError: An argument is none.
        """
        check_text("text_prompt", text_prompt)
        if isinstance(image_files, (str, bytes, os.PathLike)):
            raise ConfigError(_("image_files must be a list of paths; of a folder, call_folder_images asks"))
        files = list(image_files)
        options.setdefault("metadata_list", [{"file": _name_of(file)} for file in files])
        rows = [_conversation(file, text_prompt, system_prompt) for file in files]
        return self._client.chat_completions_batch_sync(rows, **options)

    async def call_folder_images(
        self, folder: str | os.PathLike[str], text_prompt: str, *args: Any, **options: Any
    ) -> Any:
        """Await `call_folder_images_sync`."""
        return await self._awaited(self.call_folder_images_sync, folder, text_prompt, *args, **options)

    async def call_image_files(self, image_files: Iterable[Any], text_prompt: str, *args: Any, **options: Any) -> Any:
        """Await `call_image_files_sync`."""
        return await self._awaited(self.call_image_files_sync, image_files, text_prompt, *args, **options)


def _place_of(folder: object) -> str:
    """Return the path of a folder; the empty one, which a variable that is not set gives, is none."""
    path = os.fspath(folder) if isinstance(folder, (str, os.PathLike)) else None
    if not isinstance(path, str) or not path.strip():
        raise ConfigError(_("folder={folder!r} must be the path of a folder", folder=folder))
    return os.path.normpath(os.path.expanduser(path))


def _conversation(file: Any, text: str, system_prompt: str | None) -> Conversation:
    try:
        pictures = picture_parts(file, "")
    except InputError as error:
        return Refused(str(error))
    return conversation(text, pictures, system_prompt) if pictures else Refused(_("the name of the picture is empty"))


def _name_of(file: Any) -> str | None:
    """Return what a picture is called, None where it has no name: a data URI has none either."""
    name = os.fsdecode(file) if isinstance(file, (str, os.PathLike)) else None
    return None if name is None or name[:5].lower() == "data:" else name
