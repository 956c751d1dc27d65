"""What `rookery` says in one line, without a traceback."""


class OperatorError(Exception):
    """Something that the operator can act on. The message is written for people."""


class PortError(OperatorError):
    """A port cannot be had."""


class DataError(OperatorError):
    """The data folder cannot be used."""


class StoreError(OperatorError):
    """A store cannot be reached or brought up to date. The message names the service that owns it."""


class ProfileError(OperatorError):
    """A profile cannot be put together from these settings."""


class KeyMaterialError(OperatorError):
    """Keys or certificates cannot be made or used."""


class StartError(OperatorError):
    """A process does not come up. The message names it, says why, and ends with the last lines of its log."""
