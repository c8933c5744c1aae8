"""Free ports on loopback."""

import random
import socket

LOOPBACK = "127.0.0.1"
# Below the range that Linux (32768 and up) and macOS (49152 and up) hand out to outgoing connections. A port from that
# range could be taken by any client while a broker is down for a moment, and a client that knocks at a closed port of
# that range can even be connected to itself.
LOWEST_PORT, HIGHEST_PORT = 20_000, 32_767
ATTEMPTS = 200


def is_free(port: int) -> bool:
    """Say whether a server could listen on this loopback port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As Java's server sockets do: connections of a former server that still linger do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def free_ports(count: int) -> list[int]:
    """Choose distinct ports that are free now. Another process may take one before it is used: be ready to retry.

    Raises:
        OSError: None was found.
    """
    chosen: list[int] = []
    for _ in range(ATTEMPTS):
        port = random.SystemRandom().randint(LOWEST_PORT, HIGHEST_PORT)
        if port not in chosen and is_free(port):
            chosen.append(port)
            if len(chosen) == count:
                return chosen
    raise OSError(f"no free port found on {LOOPBACK} in {ATTEMPTS} attempts")
