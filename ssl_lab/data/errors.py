"""What goes wrong with data, in words for the person who started the command."""


class DataError(ValueError):
    """Bad data or bad data settings: one message that says what was found, what is allowed and what to do.

    The command line prints the message alone, without a traceback.
    """
