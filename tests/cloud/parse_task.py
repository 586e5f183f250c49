"""Run by SkyPilot's own Python: read a task file as `sky` does, and print what SkyPilot understood."""

import json
import sys

import sky  # type: ignore[import-not-found]  # it has an environment of its own
from sky.utils import yaml_utils  # type: ignore[import-not-found]

path, *settings = sys.argv[1:]
pairs: dict[str, list[tuple[str, str]]] = {"env": [], "secret": []}
for setting in settings:
    kind, name, value = setting.split("=", 2)
    pairs[kind].append((name, value))
config = yaml_utils.read_yaml(path)
task = sky.Task.from_yaml_config(config, env_overrides=pairs["env"], secrets_overrides=pairs["secret"])
task.validate()
(resources,) = task.resources
((mount, storage),) = task.storage_mounts.items()
sys.stdout.write(
    json.dumps(
        {
            "cloud": str(resources.cloud),
            "spot": resources.use_spot,
            "recovery": resources.job_recovery,
            "down": resources.autostop_config.down,
            "idle_minutes": resources.autostop_config.idle_minutes,
            "cpus": resources.cpus,
            "memory": resources.memory,
            "accelerators": resources.accelerators,
            "envs": dict(task.envs),
            "secrets": sorted(task.secrets),
            "setup": task.setup,
            "run": task.run,
            "workdir": task.workdir,
            "mount": mount,
            "bucket": storage.name,
            "mode": storage.mode.value,
        }
    )
)
