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


def one_line(error: BaseException | str, most: int | None = None) -> str:
    """Return the message of an error on one line of at most `most` characters, or its type."""
    return " ".join(str(error).split())[:most] or type(error).__name__
