"""The exceptions a user is meant to see, each as one line without a traceback."""


from hrmas_sparse.environment import printable

__all__ = ["Damaged", "Diverged", "InputError", "printable"]


class InputError(Exception):
    """A user's mistake: bad file, bad setting, bad argument.

    The message names the file or key, what was expected, what was found and what to do; it is one printable line.
    The command line prints it without a traceback and exits with status 2.
    """

    def __str__(self) -> str:
        return printable(super().__str__())


class Damaged(InputError):
    """A file whose content cannot be what the program wrote."""


class Diverged(Exception):
    """The loss or a gradient is no longer a number: exit status 1, the last checkpoint is kept."""
