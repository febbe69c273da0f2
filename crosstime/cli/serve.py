"""``crosstime serve RUN``"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def serve(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run, such as runs/demo.")],
    port: Annotated[int, typer.Option("--port", "-p", min=0, max=65_535, help="The port; 0 takes a free one.")] = 0,
) -> None:
    """Serve a run's report on 127.0.0.1 until Ctrl-C; report.html also opens from disk, without this.

    For a run on another machine: ssh -L 8000:127.0.0.1:8000 HOST, there crosstime serve RUN --port 8000, and open
    http://127.0.0.1:8000 here. Only the report, its charts and its tables are served.
    """
    from crosstime.runs.serve import ADDRESS, server

    with server(run, port) as listening:
        print(f"{run}: http://{ADDRESS}:{listening.server_port}/ (Ctrl-C ends)", flush=True)
        try:
            listening.serve_forever()
        except KeyboardInterrupt:
            print("ended")
