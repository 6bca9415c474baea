"""Texts of a testbed's configuration files, for SLURM 22.05 and newer."""

from __future__ import annotations

import socket
from pathlib import Path

from tests.testbed.settings import Settings

CREDENTIAL_S = 5
"""Lifetime of a credential. A requeued job waits this long: SLURM's 120 s would make each requeue cost 121 s.

SLURM refuses less than 5 and then uses 120 s.
"""

DATABASE = "slurm_acct_db"


def texts(folder: Path, settings: Settings) -> dict[str, str]:
    """Return the text of every configuration file by its path in the folder."""
    files = {"slurm.conf": _slurm(folder, settings), "gres.conf": _gres(folder, settings)}
    if settings.accounting:
        files |= {
            "slurmdbd.conf": _slurmdbd(folder, settings),
            "mariadb/my.cnf": _mariadb(folder),
            "mariadb/init.sql": _grants(),
        }
    return files


def devices(folder: Path, settings: Settings) -> list[Path]:
    """Paths of the simulated GPUs, links to /dev/null: SLURM requires a device file for each GPU."""
    return [folder / "dev" / f"nvidia{i}" for i in range(settings.gpus)]


def _slurm(folder: Path, settings: Settings) -> str:
    host = socket.gethostname().partition(".")[0]
    return "\n".join(
        [
            "# Written by `python -m tests.testbed up`, which writes it anew each time.",
            "ClusterName=testbed",
            f"SlurmctldHost={host}(127.0.0.1)",
            f"SlurmctldPort={settings.base_port}",
            "SlurmUser=root",
            "SlurmdUser=root",
            "# Loopback only.",
            "CommunicationParameters=NoInAddrAny,NoCtldInAddrAny",
            f"AuthInfo=socket={folder}/munge/munge.sock,cred_expire={CREDENTIAL_S}",
            *_accounting(folder, settings),
            *_places(folder),
            "# No cgroups; a job over its memory is killed by polling.",
            "ProctrackType=proctrack/linuxproc",
            "TaskPlugin=task/none",
            "MpiDefault=none",
            "JobAcctGatherType=jobacct_gather/linux",
            "JobAcctGatherFrequency=task=1",
            "JobAcctGatherParams=OverMemoryKill",
            "# Pretend the nodes' sizes.",
            "SlurmdParameters=config_overrides",
            "SelectType=select/cons_tres",
            "SelectTypeParameters=CR_Core_Memory",
            f"DefMemPerCPU={max(1, min(500, settings.memory // settings.cpus))}",
            "# Preemption, and requeueing soon.",
            "PreemptType=preempt/partition_prio",
            "PreemptMode=REQUEUE",
            "SlurmctldParameters=preempt_send_user_signal",
            "SchedulerParameters=sched_interval=1,bf_interval=2,batch_sched_delay=0,sched_min_interval=0",
            "JobRequeue=1",
            "ReturnToService=2",
            f"SlurmdTimeout={settings.slurmd_timeout}",
            f"KillWait={settings.kill_wait}",
            f"MinJobAge={settings.min_job_age}",
            f"MaxArraySize={settings.max_array_size}",
            f"MaxJobCount={max(10_000, 2 * settings.max_array_size)}",
            f"FirstJobId={settings.first_job_id}",
            *_nodes(settings),
            "PartitionName=low Nodes=ALL Default=YES PriorityTier=1 PreemptMode=REQUEUE"
            f" GraceTime={settings.grace} State=UP",
            "PartitionName=high Nodes=ALL PriorityTier=10 PreemptMode=OFF State=UP",
            "",
        ]
    )


def _places(folder: Path) -> list[str]:
    return [
        f"StateSaveLocation={folder}/state",
        f"SlurmctldPidFile={folder}/run/slurmctld.pid",
        f"SlurmctldLogFile={folder}/log/slurmctld.log",
        f"SlurmdSpoolDir={folder}/spool/%n",
        f"SlurmdPidFile={folder}/run/slurmd-%n.pid",
        f"SlurmdLogFile={folder}/log/slurmd-%n.log",
        "MailProg=/bin/true",
    ]


def _accounting(folder: Path, settings: Settings) -> list[str]:
    if not settings.accounting:
        return ["AccountingStorageType=accounting_storage/none"]
    return [
        "AccountingStorageType=accounting_storage/slurmdbd",
        "AccountingStorageHost=127.0.0.1",
        f"AccountingStoragePort={settings.ports['slurmdbd']}",
        "# Connections to slurmdbd do not read AuthInfo.",
        f"AccountingStoragePass={folder}/munge/munge.sock",
    ]


def _nodes(settings: Settings) -> list[str]:
    host = socket.gethostname().partition(".")[0]
    gpus = f" Gres=gpu:{settings.gpus}" if settings.gpus else ""
    size = f"CPUs={settings.cpus} RealMemory={settings.memory}{gpus} State=UNKNOWN"
    lines = ["GresTypes=gpu"] if settings.gpus else []
    for name in settings.node_names:
        port = settings.ports[f"slurmd-{name}"]
        lines.append(f"NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} {size}")
    return lines


def _gres(folder: Path, settings: Settings) -> str:
    lines = ["AutoDetect=off"]
    for device in devices(folder, settings):
        lines.append(f"NodeName=n[1-{settings.nodes}] Name=gpu File={device}")
    return "\n".join([*lines, ""])


def _slurmdbd(folder: Path, settings: Settings) -> str:
    return "\n".join(
        [
            "DbdHost=localhost",
            "DbdAddr=127.0.0.1",
            f"DbdPort={settings.ports['slurmdbd']}",
            "SlurmUser=root",
            "CommunicationParameters=NoInAddrAny",
            f"AuthInfo=socket={folder}/munge/munge.sock",
            f"LogFile={folder}/log/slurmdbd.log",
            f"PidFile={folder}/run/slurmdbd.pid",
            "# Through a UNIX socket, which MYSQL_UNIX_PORT names; it lets root in.",
            "StorageType=accounting_storage/mysql",
            "StorageHost=localhost",
            "StorageUser=root",
            f"StorageLoc={DATABASE}",
            "",
        ]
    )


def _mariadb(folder: Path) -> str:
    return "\n".join(
        [
            "[mariadbd]",
            "user=root",
            f"datadir={folder}/mariadb/data",
            f"socket={folder}/mariadb/mariadb.sock",
            f"pid-file={folder}/run/mariadbd.pid",
            f"init-file={folder}/mariadb/init.sql",
            "skip-networking",
            "# Small, and as slurmdbd advises.",
            "performance-schema=off",
            "innodb-buffer-pool-size=64M",
            "innodb-log-file-size=32M",
            "innodb-lock-wait-timeout=900",
            "innodb-flush-log-at-trx-commit=2",
            "",
        ]
    )


def _grants() -> str:
    return f"CREATE DATABASE IF NOT EXISTS {DATABASE};\n"
