"""What can go wrong in a way that a person can mend, and the exit code that tells scripts which."""

EXIT_BAD_INPUT = 2
EXIT_INCOMPLETE = 3  # the command ended, but runs failed or damaged files were skipped
EXIT_LOST_PEER = 69  # one of several processes ended; the same command goes on (EX_UNAVAILABLE)
EXIT_PREEMPTED = 75  # stopped by a signal after saving; the same command goes on (EX_TEMPFAIL)


class UserError(Exception):
    """Bad input: one line that says what was wrong, where, and how to mend it."""


class Preempted(Exception):
    """SIGTERM or SIGINT arrived; everything is saved."""


class Diverged(Exception):
    """The loss or the gradient stopped being finite."""


class LostClaim(Exception):
    """Another worker took the run over, since this one did not renew its claim in time."""


def one_line(error: BaseException | str, most: int | None = None) -> str:
    """What an error says, on one line of at most that many characters; its type where it says nothing."""
    return " ".join(str(error).split())[:most] or type(error).__name__
