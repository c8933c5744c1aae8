"""What systemd is told of a worker that it started with `Type=notify`; elsewhere nothing happens.

The protocol is one datagram a fact (`man sd_notify`), too little for a dependency. The signs of life come from the
watchdog's thread, after a look that found nothing wrong: they stop when the worker does not work, and also when the
watchdog itself cannot run any more.
"""

import os
import socket

SOCKET_VARIABLE = "NOTIFY_SOCKET"


def ready() -> None:
    """The worker has started: it has a model, answers on its web address, and takes what the group gives it."""
    _tell("READY=1")


def alive() -> None:
    """A look at the worker found nothing wrong."""
    _tell("WATCHDOG=1")


def stopping() -> None:
    """The worker finishes what it has begun."""
    _tell("STOPPING=1")


def _tell(fact: str) -> None:
    address = os.environ.get(SOCKET_VARIABLE)
    if not address:
        return
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.sendto(fact.encode(), "\0" + address[1:] if address[0] == "@" else address)
    except OSError:
        pass  # nobody listens any more; that must not end a worker that works
