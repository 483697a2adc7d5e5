"""What lies beside an output file, and under which names.

Of `answers.jsonl` these are `answers.aside.jsonl` and, while a run writes it, `answers.jsonl.lock`. An output file of any
other form, such as `answers.csv`, is made from its checkpoint, `answers.csv.jsonl`, and the other two are that one's.
"""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import CheckpointError
from ..language import _

_LINES = ".jsonl"
_ASIDE = ".aside.jsonl"
_LOCK = ".lock"


def checkpoint_of(output: Path) -> Path:
    """Return the file that rows are written to as they finish: JSON lines, the output file itself where it is of these."""
    return output if output.name.endswith(_LINES) else output.with_name(f"{output.name}{_LINES}")


def aside_of(checkpoint: Path) -> Path:
    """Return where the answers are that the last input did not ask for."""
    return checkpoint.with_name(f"{checkpoint.name.removesuffix(_LINES)}{_ASIDE}")


def lock_of(checkpoint: Path) -> Path:
    """Return the file that says who writes; it lies beside the file itself, not beside a symbolic link to it."""
    real = Path(os.path.realpath(checkpoint))
    return real.with_name(f"{real.name}{_LOCK}")


def files_of(output: Path) -> tuple[Path, ...]:
    """Return all files that a run with this output file may write, each once, whether they are there or not."""
    checkpoint = checkpoint_of(output)
    return tuple(dict.fromkeys((output, checkpoint, aside_of(checkpoint), lock_of(checkpoint))))


def find_checkpoint(path: Path) -> Path:
    """Return the checkpoint of an output file that is there, by the name of the output, of itself or of its lock.

    Raises:
        CheckpointError: There is none; the message says what `path` is instead.
    """
    if path.is_dir():
        raise CheckpointError(_("{path} is a folder; name the output file of a batch in it", path=path))
    named = path.with_name(path.name.removesuffix(_LOCK))
    if named.name.endswith(_ASIDE):
        main = named.with_name(f"{named.name.removesuffix(_ASIDE)}{_LINES}")
        raise CheckpointError(
            _("{path} is the file beside an output file; ask for that one: flexllm status {main}", path=path, main=main)
        )
    checkpoint = checkpoint_of(named)
    if checkpoint.exists():
        return checkpoint
    if path.exists():
        told = _(
            "{path} is no output file of a batch: it is neither a status file nor JSON lines, and no checkpoint lies beside it "
            "({name})",
            path=path, name=checkpoint.name,
        )  # fmt: skip
        raise CheckpointError(told)
    raise CheckpointError(_("{path} does not exist; name the output file of a batch, or its status file", path=path))
