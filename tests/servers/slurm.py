"""A real Slurm of one machine: munged, slurmctld and several slurmd, all of them Debian's, started by a test.

Everything listens on loopback only. There is no accounting (slurmdbd would listen on every address); neurofm does not
ask for any.
"""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.servers.ports import free_ports

PROJECT = Path(__file__).resolve().parents[2]
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "srun", "scancel", "scontrol")
_SBIN = "/usr/sbin:/sbin"


def missing_program() -> str:
    """Return a program that a cluster needs and this machine lacks; empty if all are there."""
    path = f"{os.environ['PATH']}:{_SBIN}"
    return next((name for name in PROGRAMS if shutil.which(name, path=path) is None), "")


@dataclass
class SlurmCluster:
    """A cluster in a folder.

    Parameters
    ----------
    folder
        For its configuration, state and logs.
    nodes
        How many slurmd run.
    cpus
        Cores that each says it has.
    memory_mb
        Memory that each says it has.
    """

    folder: Path
    nodes: int = 2
    cpus: int = 2
    memory_mb: int = 8192
    _ports: list[int] = field(default_factory=list)

    @property
    def env(self) -> dict[str, str]:
        """The variables with which Slurm's commands find this cluster."""
        return os.environ | {"SLURM_CONF": str(self.folder / "slurm.conf"), "PATH": f"{os.environ['PATH']}:{_SBIN}"}

    def start(self) -> None:
        """Start it and wait until every node is idle."""
        for name in ("state", "spool", "log", "munge"):
            (self.folder / name).mkdir(parents=True)
        self.folder.chmod(0o755)
        (self.folder / "munge").chmod(0o700)
        key = self.folder / "munge" / "key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        socket_path = self.folder / "munge.sock"
        self._run(
            "munged",
            f"--key-file={key}",
            f"--socket={socket_path}",
            f"--pid-file={self.folder / 'munged.pid'}",
            f"--log-file={self.folder / 'log' / 'munged.log'}",
            f"--seed-file={self.folder / 'munge.seed'}",
            "--force",
        )
        self._ports = free_ports(self.nodes + 1)
        host, user = socket.gethostname().partition(".")[0], getpass.getuser()
        settings = {
            "ClusterName": "test",
            "SlurmctldHost": f"{host}(127.0.0.1)",
            "SlurmctldPort": self._ports[0],
            "SlurmUser": user,
            "SlurmdUser": user,
            "AuthType": "auth/munge",
            "AuthInfo": f"socket={socket_path}",
            "CredType": "cred/munge",
            "StateSaveLocation": self.folder / "state",
            "SlurmdSpoolDir": self.folder / "spool" / "%n",
            "SlurmctldPidFile": self.folder / "slurmctld.pid",
            "SlurmdPidFile": self.folder / "slurmd-%n.pid",
            "SlurmctldLogFile": self.folder / "log" / "slurmctld.log",
            "SlurmdLogFile": self.folder / "log" / "slurmd-%n.log",
            "ProctrackType": "proctrack/linuxproc",
            "TaskPlugin": "task/none",
            "SwitchType": "switch/none",
            "MpiDefault": "none",
            "ReturnToService": 2,
            "SchedulerType": "sched/backfill",
            "SelectType": "select/cons_tres",
            "SelectTypeParameters": "CR_Core_Memory",
            "AccountingStorageType": "accounting_storage/none",
            "JobCompType": "jobcomp/none",
            # Without cgroups, it is the node's daemon that looks after memory.
            "JobAcctGatherType": "jobacct_gather/linux",
            "JobAcctGatherFrequency": "task=1",
            "JobAcctGatherParams": "OverMemoryKill",
            "CommunicationParameters": "NoCtldInAddrAny,NoInAddrAny",
            "SlurmctldTimeout": 30,
            "SlurmdTimeout": 10,
            "MinJobAge": 600,
            "KillWait": 2,
            "SchedulerParameters": "batch_sched_delay=0,sched_interval=1,bf_interval=2,sched_min_interval=0",
            "JobRequeue": 1,
            "SlurmdParameters": "config_overrides",
            "PropagateResourceLimits": "NONE",
            "MaxArraySize": 11,
        }
        lines = [f"{name}={value}" for name, value in settings.items()]
        lines += [
            f"NodeName=n{node} NodeHostname={host} NodeAddr=127.0.0.1 Port={self._ports[node]} "
            f"CPUs={self.cpus} RealMemory={self.memory_mb} State=UNKNOWN"
            for node in range(1, self.nodes + 1)
        ]
        lines.append(f"PartitionName=main Nodes=n[1-{self.nodes}] Default=YES MaxTime=INFINITE State=UP")
        (self.folder / "slurm.conf").write_text("".join(f"{line}\n" for line in lines))
        (self.folder / "cgroup.conf").write_text("CgroupAutomount=no\n")
        self.start_controller()
        for node in range(1, self.nodes + 1):
            self.start_node(node)
        self.wait(lambda: self.idle() == self.nodes, "every node is idle")

    def stop(self) -> None:
        """Stop it, with everything that runs on it."""
        subprocess.run(["scancel", "--me"], env=self.env, check=False, capture_output=True, timeout=30)
        for node in range(1, self.nodes + 1):
            self.kill_node(node, jobs=True)
        self.kill_controller()
        _kill(self.folder / "munged.pid")

    def start_controller(self) -> None:
        """Start slurmctld; after a kill it takes up the state that it last wrote."""
        self._run("slurmctld")
        self.wait(lambda: self._answers("scontrol", "ping"), "slurmctld answers")

    def kill_controller(self) -> None:
        """Kill slurmctld as a crash would."""
        _kill(self.folder / "slurmctld.pid")

    def start_node(self, node: int) -> None:
        """Start one slurmd."""
        (self.folder / "spool" / f"n{node}").mkdir(exist_ok=True)
        self._run("slurmd", "-N", f"n{node}")

    def kill_node(self, node: int, *, jobs: bool) -> None:
        """Kill a slurmd; with `jobs`, what runs there dies with it, as if the power had failed."""
        _kill(self.folder / f"slurmd-n{node}.pid")
        if jobs:
            self.kill_jobs(node)

    def kill_jobs(self, node: int) -> None:
        """Kill whatever runs on a node: Slurm's own step daemons first, so that they tell nobody."""
        running = _processes_with(f"SLURMD_NODENAME=n{node}", f"SLURM_CONF={self.folder / 'slurm.conf'}")
        # A process that has ended meanwhile has no parent any more.
        told = [_read(f"/proc/{pid}/stat").rpartition(")")[2].split() for pid in running]
        parents = {int(fields[1]) for fields in told if fields}
        stepds = [pid for pid in parents if "slurmstepd" in _read(f"/proc/{pid}/cmdline")]
        for pid in (*stepds, *running):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def idle(self) -> int:
        """How many nodes are idle."""
        said = subprocess.run(
            ["sinfo", "-h", "-N", "-t", "idle"], env=self.env, capture_output=True, text=True, check=False
        )
        return len(said.stdout.splitlines())

    def ask(self, *command: str) -> str:
        """Return what a command of Slurm's says."""
        return subprocess.run(command, env=self.env, capture_output=True, text=True, check=True, timeout=60).stdout

    def jobs(self, state: str = "RUNNING,PENDING") -> list[str]:
        """Return the tasks in these states, as `scancel` knows them."""
        return self.ask("squeue", "-h", "-r", "-t", state, "-o", "%i").split()

    def hurry(self) -> None:
        """Let requeued jobs begin now: Slurm holds them back for two minutes."""
        for job in self.jobs("PENDING"):
            subprocess.run(
                ["scontrol", "update", f"JobId={job}", "StartTime=now"], env=self.env, check=False, capture_output=True
            )

    def wait(self, condition: Callable[[], object], what: str, *, seconds: float = 60.0) -> None:
        """Wait until a condition holds."""
        until = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > until:
                logs = "".join(_tail(path) for path in sorted((self.folder / "log").glob("*.log")))
                raise TimeoutError(f"{what}: not within {seconds} s\n{logs}")
            time.sleep(0.1)

    def _answers(self, *command: str) -> bool:
        done = subprocess.run(command, env=self.env, capture_output=True, text=True, check=False, timeout=60)
        return done.returncode == 0 and "DOWN" not in done.stdout

    def _run(self, *command: str) -> None:
        subprocess.run(
            command,
            env=self.env,
            check=True,
            timeout=60,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )


def _kill(pid_file: Path) -> None:
    try:
        pid = int(pid_file.read_text())
        os.kill(pid, signal.SIGKILL)
    except (FileNotFoundError, ProcessLookupError, ValueError):
        return
    while Path(f"/proc/{pid}").exists() and "Z" not in _read(f"/proc/{pid}/stat").rpartition(")")[2][:4]:
        time.sleep(0.02)
    pid_file.unlink(missing_ok=True)


def _processes_with(*variables: str) -> list[int]:
    """Return the processes whose environment holds all of these."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        environment = _read(f"{folder}/environ").split("\0")
        if all(variable in environment for variable in variables):
            found.append(int(folder.name))
    return found


def _read(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""


def _tail(path: Path) -> str:
    return f"--- {path.name}\n" + "".join(f"{line}\n" for line in _read(str(path)).splitlines()[-10:])
