"""Commands that show runs in a browser: serve, report."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer


def serve(
    runs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUN]...", help="Folders of runs, or names below runs/. None: all there are below runs/."
        ),
    ] = None,
    host: Annotated[
        str, typer.Option(help="The address to listen on; one that others reach asks for a token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0: any that is free.")] = 8080,
    token: Annotated[
        str | None,
        typer.Option(
            envvar="MERGEWRIGHT_TOKEN", help="What visitors must know. Default: on another host one is made up."
        ),
    ] = None,
) -> None:
    """Show runs as web pages: live while they are written, read-only, without the internet. Ctrl-C ends it.

    Example: mergewright serve runs/pocket-20260101-120000 --port 8080
    """
    from engine.pages.running import serve
    from engine.pages.runs import Runs

    with closing(Runs(runs or ())) as opened:
        serve(
            opened,
            host=host,
            port=port,
            token=token,
            say=lambda address: print(f"open {address}    (Ctrl-C ends it)", flush=True),
        )


def report(
    run: Annotated[str, typer.Argument(help="A run's folder, or its name below runs/.")],
    out: Annotated[Path, typer.Option(help="The HTML file to write.")],
) -> None:
    """Write a run's report: one HTML file with every figure, to keep or to send.

    Example: mergewright report runs/pocket-20260101-120000 --out report.html
    """
    from engine.pages.report import write_report
    from engine.pages.runs import Runs

    with closing(Runs([run])) as opened:
        write_report(next(iter(opened)), out)
    print(f"wrote {out}")
