"""The program as a function, for tests of what it prints."""

from hrmas_sparse import cli


def program(capture, *first):
    """Return a function that runs the program: exit status, what it printed, what it complained.

    Parameters
    ----------
    capture : pytest's capsys or capfd
    first : the words that all calls begin with
    """
    def run(*arguments):
        try:
            status = cli.main([*first, *map(str, arguments)])
        except SystemExit as error:
            status = error.code
        out, err = capture.readouterr()
        assert "Traceback" not in out + err
        return status, out, err
    return run
