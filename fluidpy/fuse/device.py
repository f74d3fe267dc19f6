"""The kernel's side: the device fd, answers, and notifications.

A notification may wait inside the kernel for a lock whose holder waits for an answer of ours, so
notifications are written by a thread of their own, never by the event loop.
"""

from __future__ import annotations

import errno
import os
import queue
import select
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Final, TypeAlias

from fluidpy.fuse import own_descriptors
from fluidpy.fuse.kernel import (
    OUT_HEADER,
    pack_error,
    pack_inc_epoch,
    pack_inval_attributes,
    pack_inval_entry,
    pack_inval_inode,
    pack_resend,
)

GONE: Final = frozenset({errno.ENODEV, errno.ECONNABORTED})
"""The mount is gone (`ENODEV`), or its connection was aborted."""

Absent: TypeAlias = Callable[[], None]
"""Called when the kernel does not know a node."""

OUT_HEADER_BYTES: Final = OUT_HEADER.size

_SHORT_BYTES: Final = 256
"""An answer as short as that is copied behind its header: one buffer costs the kernel less."""

_UNWANTED: Final = frozenset({errno.ENOENT, errno.EINTR})
"""The request was given up (a fatal signal) before its answer: nobody is left to tell."""


class Device:
    """Writes answers to `/dev/fuse`; safe from any thread."""

    def __init__(
        self, fd: int, on_fault: Callable[[OSError], None], keep: tuple[int, ...] = ()
    ) -> None:
        """Takes over the fd of one mounted connection; `on_fault` hears of refused answers.

        The thread of the notifications has no other fds than this one, standard input and output,
        and those of `keep`.
        """
        self.fd = fd
        self._keep = keep
        self._on_fault = on_fault
        self.gone = False
        os.set_blocking(fd, False)
        self._poll = select.poll()
        self._poll.register(fd, select.POLLIN)
        self._unhurried: list[int] = []
        self._notices: queue.SimpleQueue[tuple[bytes, Absent | None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._notify, name="kernel-notices", daemon=True)
        self._thread.start()

    def has_request(self) -> bool:
        """Whether a request can be read now. A read in vain costs several times as much: Python
        makes an exception of it, whose text is looked up in the user's language.
        """
        return bool(self._poll.poll(0))

    def reply(self, unique: int, payload: bytes | memoryview = b"") -> None:
        """Answers a request."""
        head = OUT_HEADER.pack(OUT_HEADER_BYTES + len(payload), 0, unique)
        try:
            if len(payload) <= _SHORT_BYTES:
                os.write(self.fd, head + payload)
            else:
                os.writev(self.fd, (head, payload))
        except OSError as error:
            self._failed(error, unique)

    def reply_after_others(self, unique: int) -> None:
        """Answers a request that nobody waits for, when `reply_to_rest` is called."""
        self._unhurried.append(unique)

    def reply_to_rest(self) -> None:
        """Answers what others were answered before."""
        unhurried, self._unhurried = self._unhurried, []
        for unique in unhurried:
            self.reply(unique)

    def reply_error(self, unique: int, code: int) -> None:
        """Answers a request with an errno."""
        try:
            os.write(self.fd, pack_error(unique, code))
        except OSError as error:
            self._failed(error, unique)

    def ask_again(self) -> None:
        """Has the kernel send again what an earlier server read and did not answer."""
        try:
            os.write(self.fd, pack_resend())
        except OSError as error:
            if error.errno not in GONE:
                self._on_fault(error)

    def invalidate_entry(self, parent: int, name: bytes) -> None:
        """Makes the kernel look a name up again, soon."""
        self._notices.put((pack_inval_entry(parent, name), None))

    def invalidate_node(self, node: int) -> None:
        """Makes the kernel forget attributes and pages (of a directory: its entries), soon."""
        self._notices.put((pack_inval_inode(node), None))

    def forget_names(self) -> None:
        """Makes the kernel look all names up again, soon; an older one (EINVAL) keeps them as long
        as it was told when it asked."""
        self._notices.put((pack_inc_epoch(), None))

    def check_node(self, node: int, on_absent: Absent) -> None:
        """Asks the kernel whether it knows a node, soon; `on_absent` is called, in the thread of
        the notifications, when it does not.
        """
        self._notices.put((pack_inval_attributes(node), on_absent))

    def _notify(self) -> None:
        own_descriptors.keep_only((0, 1, 2, self.fd, *self._keep))
        while (notice := self._notices.get()) is not None:
            content, on_absent = notice
            try:
                os.write(self.fd, content)
            except OSError as error:
                if error.errno in GONE:
                    return
                if error.errno == errno.ENOENT and on_absent is not None:
                    on_absent()
                # ENOENT, ENOTEMPTY and the like: the kernel did not know the name or the node

    def _failed(self, error: OSError, unique: int) -> None:
        if error.errno in GONE:
            self.gone = True
        elif error.errno not in _UNWANTED:
            # The kernel refused the form of an answer: end the request, or its caller hangs.
            self._on_fault(error)
            with suppress(OSError):
                os.write(self.fd, pack_error(unique, errno.EIO))

    def close(self) -> None:
        """Ends the notifications and gives the fd back."""
        self._notices.put(None)
        self._thread.join(timeout=1.0)
        os.close(self.fd)
