"""The command line. Every command states what it does, with an example; every mistake of a user is one line and an exit code.

Heavy imports happen inside the commands: `--help` and a wrong option answer at once.
"""

from __future__ import annotations

import atexit
import gc
import io
import sys
from typing import Annotated, NoReturn

import typer

from engine.cli_archive import archive_app
from engine.cli_models import apply_command, doctor, try_program, verify
from engine.cli_pages import report, serve
from engine.cli_run import init, resume, run, status
from engine.cli_score import score_command
from engine.cli_study import study
from engine.outcome import report_error

app = typer.Typer(
    name="mergewright",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Search for merge algorithms: a language model writes them, a sandbox runs them, a benchmark scores them.",
)
app.command()(run)
app.command()(resume)
app.command()(status)
app.command()(study)
app.command()(init)
app.command("try")(try_program)
app.command("apply")(apply_command)
app.command()(verify)
app.command("score")(score_command)
app.command()(serve)
app.command()(report)
app.command()(doctor)
app.add_typer(archive_app, name="archive")


@app.callback(invoke_without_command=True)
def root(version: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False) -> None:
    """Search for merge algorithms: a language model writes them, a sandbox runs them, a benchmark scores them."""
    if version:
        from engine.rundir import package_version

        print(f"mergewright {package_version('mergewright')}")
        raise typer.Exit


def main() -> NoReturn:
    """Entry point: run the command line, turn every known error into one line and its exit code."""
    atexit.register(
        gc.freeze
    )  # looking for cycles among torch's objects takes half a second, and the process ends anyway
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal without Unicode gets a ? for a sign that it lacks
    try:
        code = app(standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except typer.Abort:
        sys.exit(report_error("stopped by the user", code=130))
    except typer.TyperException as error:
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "mergewright"
        sys.exit(report_error(f"{error.format_message().rstrip('.')}; see `{command} --help`", code=2))
    except Exception as error:  # translated or raised again: nothing is swallowed
        from engine.errors import KNOWN_ERRORS, exit_code

        if not isinstance(error, KNOWN_ERRORS):
            raise
        sys.exit(report_error(str(error), code=exit_code(error)))


if __name__ == "__main__":
    main()
