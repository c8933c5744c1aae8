"""What ends a process before it works, and how it says so."""


class StartupError(RuntimeError):
    """The process cannot start; the message is the one line that says what to do."""

    exit_code = 2


class KafkaAway(StartupError):
    """Nobody answers at the address: it may be a wrong one, or a broker that comes up later, so another try is fair."""

    exit_code = 69
