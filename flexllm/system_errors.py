"""What the operating system says when it refuses something, in the language in use."""

from __future__ import annotations

import errno

from .language import _, mark

_REASONS = {
    errno.EPERM: mark("Operation not permitted"),
    errno.ENOENT: mark("No such file or directory"),
    errno.EIO: mark("Input/output error"),
    errno.EBADF: mark("Bad file descriptor"),
    errno.ENOMEM: mark("Cannot allocate memory"),
    errno.EACCES: mark("Permission denied"),
    errno.EBUSY: mark("Device or resource busy"),
    errno.EEXIST: mark("File exists"),
    errno.EXDEV: mark("Invalid cross-device link"),
    errno.ENOTDIR: mark("Not a directory"),
    errno.EISDIR: mark("Is a directory"),
    errno.EINVAL: mark("Invalid argument"),
    errno.ENFILE: mark("Too many open files in system"),
    errno.EMFILE: mark("Too many open files"),
    errno.ETXTBSY: mark("Text file busy"),
    errno.EFBIG: mark("File too large"),
    errno.ENOSPC: mark("No space left on device"),
    errno.ESPIPE: mark("Illegal seek"),
    errno.EROFS: mark("Read-only file system"),
    errno.EMLINK: mark("Too many links"),
    errno.EPIPE: mark("Broken pipe"),
    errno.ENAMETOOLONG: mark("File name too long"),
    errno.ENOTEMPTY: mark("Directory not empty"),
    errno.ELOOP: mark("Too many levels of symbolic links"),
    errno.EDQUOT: mark("Disk quota exceeded"),
    errno.EADDRINUSE: mark("Address already in use"),
    errno.EADDRNOTAVAIL: mark("Cannot assign requested address"),
    errno.ENETDOWN: mark("Network is down"),
    errno.ENETUNREACH: mark("Network is unreachable"),
    errno.ECONNABORTED: mark("Software caused connection abort"),
    errno.ECONNRESET: mark("Connection reset by peer"),
    errno.ECONNREFUSED: mark("Connection refused"),
    errno.EHOSTDOWN: mark("Host is down"),
    errno.EHOSTUNREACH: mark("No route to host"),
    errno.ETIMEDOUT: mark("Connection timed out"),
    errno.ESTALE: mark("Stale file handle"),
    errno.ENOTCONN: mark("Transport endpoint is not connected"),
    errno.ENODEV: mark("No such device"),
    errno.ENXIO: mark("No such device or address"),
    errno.EAGAIN: mark("Resource temporarily unavailable"),
    errno.ENOTSUP: mark("Operation not supported"),
}
"""In English as Linux words them; another system's own words are left as they are."""


def reason_of(error: OSError) -> str:
    """Return why the system refused, without number and file name, such as "No space left on device"; never an empty text."""
    if error.strerror is None:
        return str(error) or type(error).__name__
    known = _REASONS.get(error.errno or 0)
    return _(known) if known == error.strerror else error.strerror
