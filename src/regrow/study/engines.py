"""The engines by name. Light: each engine's module is imported when it is asked for."""

from __future__ import annotations

from regrow.errors import InputError, one_of
from regrow.study.engine import Engine
from regrow.units import plural

ENGINES = ("local", "ray")


def make_engine(
    name: str = "local",
    *,
    workers: int | None = None,
    address: str | None = None,
    retries: int = 1,
    cpus: float | None = None,
    gpus: float | None = None,
) -> Engine:
    """An engine by its name.

    Args:
        name: `local` (processes on this machine) or `ray` (a Ray cluster, or a local one started for the study).
        workers: cells that run at once; by default one per GPU, else one per CPU and at most four (`local`), or what
            the cluster has room for (`ray`).
        address: of a running Ray cluster, e.g. `auto` or `10.0.0.1:6379`.
        retries: how often a cell whose process died is given to another one.
        cpus, gpus: what a cell takes of a Ray cluster.

    Raises `InputError` for what cannot be, or a cluster that does not answer.
    """
    one_of(name, ENGINES, what="engine", where="--engine")
    if workers is not None and workers < 1:
        raise InputError(plural(workers, "worker"), where="--workers", hint="give at least 1")
    if retries < 0:
        raise InputError(f"{retries} retries", where="--retries", hint="give 0 or more")
    for option, value, least in (("--cpus", cpus, 0.0), ("--gpus", gpus, -1.0)):
        if value is not None and not value > least:
            raise InputError(f"{value:g}", where=option, hint="give a positive number")
    if name == "ray":
        from regrow.study.ray import RayEngine

        return RayEngine(workers=workers, address=address, retries=retries, cpus=cpus, gpus=gpus)
    given = {"--address": address, "--cpus": cpus, "--gpus": gpus}
    for option, asked in given.items():
        if asked is not None:
            raise InputError("only a Ray cluster has one", where=option, hint="add --engine ray")
    from regrow.study.local import LocalEngine

    return LocalEngine(workers=workers, retries=retries)
