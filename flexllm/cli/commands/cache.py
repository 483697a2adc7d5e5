"""`flexllm cache`: what the response cache holds, and what is to go."""

from __future__ import annotations

import argparse

from ...language import _, plural
from ..output import talk
from ..tables import shortened
from ..units import count, duration, shown_size, size

TYPE_CHECKING = False  # see errors.py

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from ...cache.admin import CacheEntry, CacheStats
    from ...cache.store import ResponseCache

SHOWN = 10
"""Answers that `show` lists."""


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "cache",
        help=_("show, prune or export the answers that are kept"),
        description=_(
            "Look after the response cache: the answers that flexllm batch --cache, or a client with a "
            "ResponseCacheConfig, has kept. Any of it may be done while others use the cache."
        ),
        epilog=_("Example: flexllm cache prune --older-than 30d"),
    )
    actions = parser.add_subparsers(
        prog="flexllm cache", title=_("what to do"), dest="action", metavar="ACTION", required=True
    )
    parser.set_defaults(verbose=False, quiet=False)
    _add_stats(actions)
    _add_show(actions)
    _add_prune(actions)
    _add_export(actions)


def _add_stats(actions: Any) -> None:
    parser = actions.add_parser(
        "stats",
        help=_("count the answers"),
        description=_("Tell how many answers there are, of which models and how old."),
    )
    _add_folder(parser)
    parser.add_argument(
        "--cache-ttl", type=duration, metavar="TIME",
        help=_("the age from which on answers count as too old: seconds, or 30m, 12h, 7d; 0 for never (24h)"),
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help=_("print it as JSON"))
    parser.set_defaults(run=_stats)


def _add_show(actions: Any) -> None:
    parser = actions.add_parser(
        "show",
        help=_("list the newest answers, or show one"),
        description=_("List the newest answers, of any age, or show the one with this key, or whose key begins so."),
    )
    parser.add_argument("key", nargs="?", metavar="KEY", help=_("as the list has it"))
    parser.add_argument(
        "-n", "--limit", type=count, default=SHOWN, metavar="N", help=_("how many to list ({default})", default=SHOWN)
    )
    _add_folder(parser)
    parser.add_argument("--json", action="store_true", help=_("print all that is known, as JSON"))
    parser.set_defaults(run=_show)


def _add_prune(actions: Any) -> None:
    parser = actions.add_parser(
        "prune", help=_("remove answers"), description=_("Remove answers for good, and make the file smaller.")
    )
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument(
        "--older-than",
        type=duration,
        metavar="TIME",
        help=_("answers that are older than so many seconds, or 30m, 12h, 7d"),
    )
    which.add_argument(
        "--max-size",
        type=size,
        metavar="SIZE",
        help=_("the oldest answers, until the file has at most so many bytes, or 64K, 500M"),
    )
    which.add_argument("--all", action="store_true", help=_("all answers"))
    _add_folder(parser)
    parser.add_argument("--json", action="store_true", help=_("print how many as JSON"))
    parser.set_defaults(run=_prune)


def _add_export(actions: Any) -> None:
    parser = actions.add_parser(
        "export",
        help=_("print all answers as JSON lines"),
        description=_("Print all answers, of any age, the oldest first, as one JSON object a line."),
    )
    _add_folder(parser)
    parser.set_defaults(run=_export)


def _add_folder(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--cache-dir", metavar="DIR", help=_("the folder of the cache (~/.cache/flexllm/llm_response)"))


def _open(args: argparse.Namespace, ttl: float | None = None) -> ResponseCache:
    """Return the cache; no file is made if there is none. Raises ConfigError if it cannot be one."""
    from ...cache import ResponseCacheConfig
    from ...cache.store import ResponseCache
    from ...errors import ConfigError
    from ..logs import set_up_logging

    set_up_logging(args)
    given = {"cache_dir": args.cache_dir, "ttl": ttl}
    cache = ResponseCache(
        ResponseCacheConfig(enabled=True, **{name: value for name, value in given.items() if value is not None})
    )
    if cache.config.path.exists() and not cache.config.path.is_dir():  # a batch does without; here it is all there is
        raise ConfigError(_("the response cache cannot be in {path}, which is no folder", path=cache.config.path))
    return cache


def _stats(args: argparse.Namespace) -> int:
    from ..output import print_data, print_json

    with _open(args, args.cache_ttl) as cache:
        stats = cache.stats()
    if args.json:
        print_json(stats.as_dict())
    else:
        print_data("\n".join(_told(stats)))
    return 0


def _told(stats: CacheStats) -> Iterable[str]:
    yield plural(
        "{path}: {count:,} answer, {size}", "{path}: {count:,} answers, {size}", stats.entries, path=stats.path,
        size=shown_size(stats.bytes),
    )  # fmt: skip
    if stats.expired:
        yield "  " + _("{expired:,} of them too old to be used", expired=stats.expired)
    if stats.oldest is not None and stats.newest is not None:
        yield "  " + _("made from {oldest} to {newest}", oldest=_when(stats.oldest), newest=_when(stats.newest))
    for model, number in stats.models.items():
        yield f"  {number:>9,}  {model or _('of unnamed models')}"


def _show(args: argparse.Namespace) -> int:
    from itertools import islice

    from ..output import print_data, print_json

    with _open(args) as cache:
        if args.key is not None:
            entry = _find(cache, args.key)
            if args.json:
                print_json(_fields(entry))
            else:
                print_data(_whole(entry))
            return 0
        found = list(islice(cache.entries(newest_first=True), args.limit))
    if args.json:
        print_json([_fields(entry) for entry in found])
    elif found:
        print_data("\n".join(map(_line, found)))
    else:
        _tell_none(cache)
    return 0


def _find(cache: ResponseCache, key: str) -> CacheEntry:
    """Return the entry with that key, or the only one whose key begins with it.

    Raises:
        CacheError: There is none, or several.
    """
    from ...errors import CacheError

    found = []
    for entry in cache.entries():
        if entry.key == key:
            return entry
        if entry.key.startswith(key):
            found.append(entry)
    if len(found) == 1:
        return found[0]
    if found:
        raise CacheError(
            _("{count:,} answers have keys that begin with {key!r}; give more of it", count=len(found), key=key)
        )
    raise CacheError(
        _(
            "no answer in {path} has the key {key!r}; flexllm cache show lists the newest",
            path=cache.config.path,
            key=key,
        )
    )


def _prune(args: argparse.Namespace) -> int:
    from ..output import print_json

    with _open(args) as cache:
        removed = cache.prune(older_than=args.older_than, everything=args.all, max_bytes=args.max_size)
        left = cache.stats()
    if args.json:
        print_json({"removed": removed, **left.as_dict()})
    else:
        talk(
            plural(
                "{count:,} answer removed from {path}, {left:,} left ({size}).",
                "{count:,} answers removed from {path}, {left:,} left ({size}).",
                removed, path=left.path, left=left.entries, size=shown_size(left.bytes),
            )
        )  # fmt: skip
    return 0


def _export(args: argparse.Namespace) -> int:
    import json

    from ..output import print_data

    entry = None
    with _open(args) as cache:
        for entry in cache.entries():
            # In ASCII: half a character, which models do send, stays what it is, and so it does in any locale.
            print_data(json.dumps(_fields(entry)), at_once=False)
    print_data("", end="")
    if entry is None:
        _tell_none(cache)
    return 0


def _tell_none(cache: ResponseCache) -> None:
    talk(_("There are no answers in {path}.", path=cache.config.path))


def _fields(entry: CacheEntry) -> dict[str, Any]:
    """Return an entry as JSON-able fields; those that tell nothing are left out."""
    result = entry.result
    fields = {
        "key": entry.key,
        "at": entry.at,
        "model": result.model,
        "content": result.content,
        "reasoning_content": result.reasoning_content,
        "tool_calls": [call.as_dict() for call in result.tool_calls] if result.tool_calls else None,
        "finish_reason": result.finish_reason,
        "usage": result.usage,
        "endpoint": result.endpoint,
        "request_id": result.request_id,
        "latency": result.latency,
        "native_finish_reason": result.native_finish_reason,
        "native": result.native,
        "body": result.body.decode("utf-8", "replace") if result.body is not None else None,
    }
    return {name: value for name, value in fields.items() if value is not None}


def _line(entry: CacheEntry) -> str:
    text = shortened(entry.result.content) or _("(no text)")
    number = entry.result.usage["completion_tokens"] if entry.result.usage else 0
    tokens = plural("{count:,} token", "{count:,} tokens", number)
    return f"{entry.key}  {_when(entry.at)}  {entry.result.model or '-'}  {tokens}  {text}"


def _whole(entry: CacheEntry) -> str:
    fields = _fields(entry)
    head = [
        f"{name}: {_worded(value)}" for name, value in {**fields, "at": _when(entry.at)}.items() if name not in _LONG
    ]
    return "\n".join([*head, "", entry.result.content])


_LONG = ("content", "body", "native")


def _worded(value: Any) -> str:
    import json

    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _when(unix_time: float) -> str:
    """Return a time as people read it, in the local zone."""
    import time

    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(unix_time))
    except (OverflowError, ValueError, OSError):  # an entry that somebody else wrote
        return f"{unix_time:g}"
