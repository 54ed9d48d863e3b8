"""Define the errors that a user can fix, and their exit codes for scripts."""

EXIT_BAD_INPUT = 2
EXIT_INCOMPLETE = 3  # the command ended, but runs failed or damaged files were skipped
EXIT_LOST_PEER = 69  # one of several processes ended; the same command resumes (EX_UNAVAILABLE)
EXIT_PREEMPTED = 75  # stopped by a signal after saving; the same command resumes (EX_TEMPFAIL)


class UserError(Exception):
    """Bad input; its message is one line: what was wrong, where, and how to fix it."""


class Preempted(BaseException):
    """SIGTERM or SIGINT came. No `except Exception`, ours or a library's, ends its way up."""


class LostClaim(Exception):
    """Another worker took the run over, since this process did not renew its claim in time."""


def one_line(error: BaseException | str, most: int = 1000) -> str:
    """Return the message of an error on one line of at most `most` characters, or its type."""
    try:
        text = str(error)
    except Exception:  # an exception of a study
        text = ""
    return shortened(" ".join(text.split()), most) or type(error).__name__


def shown(value: object, most: int = 200) -> str:
    """Return the repr of a value for a message, or its type where it has none."""
    try:
        return shortened(repr(value), most)
    except Exception:  # an object of a study, or a whole number of too many digits
        return f"<{type(value).__name__}>"


def shortened(text: str, most: int) -> str:
    """Return a text of at most `most` characters: the beginning and the end of a longer one."""
    half = (most - 1) // 2
    return text if len(text) <= most else f"{text[:half]}…{text[-half:]}"
