"""`jumbe prove`: kill it anywhere, let everything fail, and count; on this machine, by whoever doubts it."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
from pathlib import Path

import click

from storage.errors import Misconfigured

_HERE = Path(__file__).resolve().parents[2]
"""The folder that holds the packages; in a checkout it holds `tests` too."""

_SIGNS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

_NEEDED = {"pytest": "pytest", "openapi_core": "openapi-core", "hypothesis": "hypothesis"}


@click.command()
@click.option("--night", is_flag=True, help="The long form: ten thousand kills, thousands of virtual days.")
@click.option(
    "--minutes", type=click.IntRange(1, 7 * 24 * 60), help="Bound the time; without it 5 minutes, or 10 hours by night."
)
@click.option("--seed", type=int, help="Repeat what a run that printed this seed had drawn.")
@click.pass_context
def prove(ctx: click.Context, *, night: bool, minutes: int | None, seed: int | None) -> None:
    """Prove that nothing is lost or sent twice, by kills and faults; exit 1 if a promise was broken.

    It works on databases and gateways of its own in a temporary folder, and touches nothing of yours.
    """
    if not (_HERE / "tests" / "proof" / "__main__.py").is_file():
        raise Misconfigured(
            [
                f"the proof is not beside the packages in {_HERE}: it comes with the source, so run 'make prove' in a checkout"
            ]
        )
    missing = sorted(name for module, name in _NEEDED.items() if importlib.util.find_spec(module) is None)
    if missing:
        raise Misconfigured(
            [f"the proof needs {', '.join(missing)}, which are not installed: run 'pip install -e .[dev]' in {_HERE}"]
        )
    told = {"PROVE": "night" if night else "quick"}
    if minutes is not None:
        told["PROVE_MINUTES"] = str(minutes)
    if seed is not None:
        told["PROVE_SEED"] = str(seed)
    command = [sys.executable, "-W", "ignore", "-m", "tests.proof"]
    # In a session of its own: it hears what this process hears, once, and has the time to end what it started.
    with subprocess.Popen(command, cwd=_HERE, env=os.environ | told, start_new_session=True) as child:  # noqa: S603
        before = {sign: signal.signal(sign, lambda heard, _: child.send_signal(heard)) for sign in _SIGNS}
        try:
            child.wait()
        finally:
            for sign, handler in before.items():
                signal.signal(sign, handler)
    ctx.exit(0 if child.returncode == 0 else 1)
