"""The one exception of this package."""


class BrokerError(RuntimeError):
    """A local broker cannot be had; the message is one line that says why and what to do."""
