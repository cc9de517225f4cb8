"""A Ray cluster of the study's own: it listens on loopback only, and answers only to processes that have its token.

Whoever reaches a port of a Ray cluster can run code in it. By default Ray's daemons and workers listen on every
interface of the machine, and versions before 2.52 ask for no token. Here:

- the node's address is 127.0.0.1, and Ray's servers listen where the node's address is. Ray turns a loopback address
  into one of the network's, unless it takes the machine for one that joins no cluster;
- token authentication is on, with a new random token. It is in the environment of the study's processes, which only
  the same user can read, and in no file. `RAY_AUTH_TOKEN` or `RAY_AUTH_TOKEN_PATH` name another token;
- both are looked at once the cluster runs. A cluster without them is ended.

Source: https://docs.ray.io/en/latest/ray-security/token-auth.html and `ray/_private/services.py` of ray 2.60.
"""

from __future__ import annotations

import importlib
import os
import secrets
from typing import Any

from regrow.errors import InputError

LOOPBACK = "127.0.0.1"
#: Bytes of the object store: only jobs and one-line answers pass through it.
_STORE = 100_000_000
#: What tells Ray that this machine joins no cluster, so that it keeps the loopback address.
_NO_CLUSTER = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
_MODE, _TOKENS = "RAY_AUTH_MODE", ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")


class OwnCluster:
    """Starts a local cluster with `cpus` CPUs and connects to it; `close` ends it.

    Raises `InputError` if this Ray has no token authentication, if it is turned off, or if the cluster's address is
    not loopback.
    """

    def __init__(self, ray: Any, cpus: float, **options: Any) -> None:
        self._ray = ray
        _can_authenticate(ray)
        added = {**_NO_CLUSTER, _MODE: "token"}
        if not any(name in os.environ for name in _TOKENS):
            added[_TOKENS[0]] = secrets.token_hex(32)
        self._before = {name: os.environ.get(name) for name in added}
        os.environ.update(added)
        try:
            self._start(cpus, options)
            self._check()
        except BaseException:
            self.close()
            raise

    def _start(self, cpus: float, options: dict[str, Any]) -> None:
        from ray._private import ray_constants

        _read_authentication()
        joins = ray_constants.ENABLE_RAY_CLUSTER  # read from the environment when ray was imported, perhaps before
        ray_constants.ENABLE_RAY_CLUSTER = False
        try:
            self._ray.init(
                address="local",
                num_cpus=cpus,
                include_dashboard=False,
                object_store_memory=_STORE,
                _node_ip_address=LOOPBACK,
                **options,
            )
        finally:
            ray_constants.ENABLE_RAY_CLUSTER = joins

    def _check(self) -> None:
        address = self._ray.get_runtime_context().gcs_address
        if not address.startswith(f"{LOOPBACK}:"):
            raise InputError(
                f"Ray {self._ray.__version__} listens on {address}, which other machines can reach",
                where="--engine ray",
                hint="use --engine local, or start a cluster with `ray start` and give its --address",
            )
        if not asks_for_a_token():
            raise InputError(
                f"Ray {self._ray.__version__} started without token authentication",
                where="--engine ray",
                hint=_UPDATE,
            )

    def close(self) -> None:
        self._ray.shutdown()
        for name, value in self._before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        _read_authentication()


_UPDATE = "pip install 'ray>=2.52', or use --engine local"


def asks_for_a_token() -> bool:
    """Whether Ray's servers ask the clients of this process for a token, and this process sends one."""
    raylet = _raylet()
    if not hasattr(raylet, "get_authentication_mode"):
        return False
    return bool(raylet.get_authentication_mode() == raylet.AuthenticationMode.TOKEN)


def _raylet() -> Any:
    return importlib.import_module("ray._raylet")  # compiled: it has no types


def _read_authentication() -> None:
    """Have Ray read the mode and the token from the environment again; it keeps what it read first."""
    _raylet().Config.initialize("")
    _raylet().AuthenticationTokenLoader.instance().reset_cache()


def _can_authenticate(ray: Any) -> None:
    """Raise `InputError` if this Ray knows no tokens, or was told to ask for none."""
    if not hasattr(_raylet(), "AuthenticationTokenLoader"):
        raise InputError(
            f"Ray {ray.__version__} has no token authentication: anyone on this machine could run code in the study",
            where="--engine ray",
            hint=_UPDATE,
        )
    mode = os.environ.get(_MODE)
    if mode is not None and mode.lower() != "token":
        raise InputError(
            f"{_MODE}={mode}: anyone on this machine could run code in the study's cluster",
            where="--engine ray",
            hint=f"unset {_MODE}, or use --engine local",
        )
