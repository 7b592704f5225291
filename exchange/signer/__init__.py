"""A process that alone holds the key of the log, and signs nothing but a tree that continues the last.

It listens on a Unix socket, needs no database, and keeps its memory in a folder of its own (`home`). Who asks
is one of the users that it was told of, by what the kernel says (`server`); the worker asks (`client`).

A request is a line `keys` or `sign`, then for `sign` what C2SP tlog-witness sends, with a checkpoint's text
that nobody has signed; the sender ends its half of the connection. A reply is a line with a status of that
protocol and, for 409, the size of the last head; then the answer.
"""

from __future__ import annotations
