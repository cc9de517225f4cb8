"""A study's own Ray cluster: loopback only, and no call without its token."""

import os
import subprocess
import sys
import urllib.error
import urllib.request

import psutil
import pytest

from regrow.errors import InputError
from regrow.study import own_cluster

#: One call of each of Ray's gRPC servers: of the head, of a node's daemon, and of a worker.
CALLS = {
    "gcs_server": "ray.rpc.NodeInfoGcsService/GetAllNodeInfo",
    "raylet": "ray.rpc.NodeManagerService/GetNodeStats",
    "worker": "ray.rpc.CoreWorkerService/PushTask",
}
#: What another process of this machine gets from every port it is given: `SERVER STATUS`.
OTHER = """
import os, sys, grpc
token, calls, ports = sys.argv[1], eval(sys.argv[2]), sys.argv[3:]
def ask(port, call):
    call = grpc.insecure_channel(f"127.0.0.1:{port}").unary_unary("/" + call)
    try:
        return len(call(b"", timeout=5, metadata=[("authorization", "Bearer " + token)] if token else None))
    except grpc.RpcError as error:
        return error.code().name
ask(1, "any")  # imports what it needs
if os.geteuid() == 0:  # another user, where this one may become one
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
for port in ports:
    for server, call in calls.items():
        print(server, ask(port, call))
"""


@pytest.fixture
def listening(ray_engine):
    """Addresses where this process, the daemons it started and a worker listen: (address, port, process)."""
    import ray

    ray.get(ray.remote(lambda: None).remote())  # a worker
    me = psutil.Process()
    names = {process.pid: process.name() for process in (me, *me.children(recursive=True))}
    found = [
        (one.laddr.ip, one.laddr.port, names[one.pid])
        for one in psutil.net_connections("inet")
        if one.status == psutil.CONN_LISTEN and one.pid in names
    ]
    daemons = {name for _, _, name in found}
    assert {"gcs_server", "raylet"} <= daemons
    assert any(name.startswith("ray::IDLE") for name in daemons)
    return found


def test_a_studys_own_cluster_listens_on_loopback_only(listening):
    assert {address.removeprefix("::ffff:") for address, _, _ in listening} == {"127.0.0.1"}


def asked(token, ports):
    """What a process of another user is answered, by server."""
    pytest.importorskip("grpc")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    command = [sys.executable, "-c", OTHER, token, repr(CALLS), *map(str, ports)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr
    return [line.split() for line in done.stdout.splitlines()]


def test_another_user_of_the_machine_is_refused(listening):
    ports = [port for _, port, name in listening if "RuntimeEnv" not in name]
    for token in ("", "0" * 64):
        answers = asked(token, ports)
        refused = {server for server, status in answers if status == "UNAUTHENTICATED"}
        assert refused == set(CALLS)
        # the other ports do not serve that call
        assert {status for _, status in answers} <= {"UNAUTHENTICATED", "UNIMPLEMENTED", "UNAVAILABLE"}
    answers = asked(os.environ["RAY_AUTH_TOKEN"], ports)
    assert any(server == "gcs_server" and status.isdigit() for server, status in answers)
    for _, port, name in listening:
        if "RuntimeEnv" in name:
            with pytest.raises(urllib.error.HTTPError, match="401"):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/get_or_create_runtime_env", data=b"", timeout=10)


def test_a_version_without_tokens_or_tokens_turned_off_are_refused(monkeypatch):
    ray = pytest.importorskip("ray")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with pytest.raises(InputError, match=r"RAY_AUTH_MODE=disabled: anyone .*; unset RAY_AUTH_MODE"):
        own_cluster.OwnCluster(ray, 1)
    monkeypatch.delattr(ray._raylet, "AuthenticationTokenLoader")
    with pytest.raises(InputError, match=r"has no token authentication: .*; pip install 'ray>=2.52'"):
        own_cluster.OwnCluster(ray, 1)


START = """
import os
import ray  # before the engine: its settings are read by now
from regrow.study.engines import make_engine
before = dict(os.environ)
engine = make_engine("ray", workers=1)
print(ray.get_runtime_context().gcs_address.rpartition(":")[0], len(os.environ["RAY_AUTH_TOKEN"]))
engine.close()
names = [name for name in os.environ if name.startswith("RAY_") and name != "RAY_USAGE_STATS_ENABLED"]
print([name for name in names if os.environ[name] != before.get(name)])
"""


def test_ray_imported_before_is_no_way_around_and_the_environment_is_given_back(tmp_path):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    done = subprocess.run(
        [sys.executable, "-c", START], capture_output=True, text=True, env={**environment, "HOME": str(tmp_path)}
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["127.0.0.1 64", "[]"]
    assert not (tmp_path / ".ray").exists()  # the token is in no file
