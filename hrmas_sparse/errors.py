"""The one exception a user is meant to see."""


class InputError(Exception):
    """A user's mistake: bad file, bad setting, bad argument.

    The message names the file or key, what was expected, what was found and what to do.
    The command line prints it without a traceback and exits with status 2.
    """
