"""The one error that devstack raises for its user to read."""


class DevstackError(RuntimeError):
    """Something the user can act on; the message says what to do next."""
