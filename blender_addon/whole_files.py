# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that Blender writes, whole or not at all."""

import errno
import os
import signal
from contextlib import contextmanager


@contextmanager
def whole_files(*paths):
    """Passing names beside `paths` (None stays None), which take their places together at the end, or not at all.

    Raises `OSError`.
    """
    if folder := next((path for path in paths if path and path.is_dir()), None):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(folder))
    parts = [path and path.resolve().with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}") for path in paths]
    try:
        yield parts
        for part, path in zip(parts, paths):
            if part:
                os.replace(part, path)
    finally:
        for part in filter(None, parts):
            part.unlink(missing_ok=True)


@contextmanager
def whole_files_or_end(*paths):
    """As `whole_files`, for a process that does nothing else: Ctrl-C and a polite end leave nothing either.

    The process goes at once, since an exception raised while Blender renders is lost in the render engine's own callbacks,
    and the work would go on.
    """
    with whole_files(*paths) as parts:

        def end_now(number, frame):
            for part in filter(None, parts):
                part.unlink(missing_ok=True)
            os._exit(128 + number)

        kept = {number: signal.signal(number, end_now) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield parts
        finally:
            for number, handler in kept.items():
                signal.signal(number, signal.SIG_DFL if handler is None else handler)
