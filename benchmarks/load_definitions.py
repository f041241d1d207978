"""The cost of loading the code location for 2, 50 and 500 models: CPU seconds beyond `import dagster`.

Each figure comes from a process of its own, with byte code cached. Compare only figures of the same run,
because a busy machine raises all of them.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks" / "results" / "load_definitions.json"
MODEL = "flight_delay"
EXAMPLE = ROOT / "examples" / "flights" / "src" / "flights" / "defs" / MODEL
HEAVY = ("boto3", "botocore", "pandas", "snowflake", "deltalake", "sagemaker", "pyarrow", "numpy")
# CPU seconds. Dagster reads YAML in pure Python, which takes most of the time with hundreds of models.
LIMITS = {2: 1.0, 50: 3.0, 500: 30.0}
_REPEATS = 3

_LOADED = """
import json, sys, time
from pathlib import Path
from types import ModuleType
import dagster
bare = time.process_time()
from mlpipe_dagster import definitions
project = Path(sys.argv[1])
package = ModuleType("models")
package.__path__, package.__file__ = [str(project / "models" / "defs")], None
models = definitions.model_definitions(package, project)
whole = dagster.Definitions.merge(models, definitions.platform_definitions(models))
loaded = time.process_time()
assets = len(list(whole.assets or ()))
whole.get_repository_def()
served = time.process_time()
# A namespace package, which an installed .pth file makes at every start of Python, is no import.
heavy = [name for name in sys.argv[2:] if getattr(sys.modules.get(name), "__file__", None)]
print(json.dumps({"bare": bare, "definitions": loaded - bare, "code_server": served - bare, "heavy": heavy,
                  "assets": assets}))
"""


def models_in(project: Path, count: int) -> Path:
    """Write a project folder with this many copies of a real model, and return it."""
    for number in range(count):
        folder = project / "models" / "defs" / f"model_{number:03}"
        shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    return project


def measured(project: Path) -> dict[str, float | list[str]]:
    """Return the figures of one process that loads a project's models."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _LOADED, str(project), *HEAVY],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def main() -> int:
    """Measure, print and write the result; return 1 if a limit is exceeded."""
    found = {}
    with tempfile.TemporaryDirectory() as temporary:
        for count, limit in LIMITS.items():
            project = models_in(Path(temporary) / str(count), count)
            # The first run compiles byte code and is not counted.
            runs = [measured(project) for _ in range(_REPEATS + 1)][1:]
            figures = {
                name: round(median(float(run[name]) for run in runs), 3)  # type: ignore[arg-type]  # numbers
                for name in ("bare", "definitions", "code_server")
            }
            found[str(count)] = {**figures, "limit": limit, "heavy_modules": runs[0]["heavy"]}
            sys.stdout.write(
                f"{count} models: {figures['definitions']} s of CPU over {figures['bare']} s for a bare "
                f"`import dagster` (limit {limit}); {figures['code_server']} s until a code server is ready\n"
            )
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps({"seconds_of_cpu": found}, indent=1) + "\n")
    return int(any(each["definitions"] > each["limit"] or each["heavy_modules"] for each in found.values()))


if __name__ == "__main__":
    sys.exit(main())
