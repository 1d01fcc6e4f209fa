"""What the user did wrong, told in lines a person can act on."""

from collections.abc import Sequence


class InputError(ValueError):
    """The user's input (config, file, argument) is wrong; the command line prints it without a traceback and exits with 2.

    Each problem is one line that names file, field or key, the value found and what would be right.
    """

    def __init__(self, problems: str | Sequence[str]) -> None:
        self.problems: tuple[str, ...] = (problems,) if isinstance(problems, str) else tuple(problems)
        super().__init__("\n".join(self.problems))


class RunError(RuntimeError):
    """The run failed for a reason that is known and told in one line (exit code 1, no traceback)."""
