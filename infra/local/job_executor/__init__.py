"""Glue's and SageMaker's APIs on a laptop: AWS's wire protocol in front, the real script behind.

The executor runs any script that a caller names: by design it executes arbitrary code as the current user.
It therefore listens on the loopback interface only and answers only requests whose `Host` is loopback.

How it differs from AWS, so that nobody relies on it:

- A caller's signature and permissions are not checked; the job's own role is, and the job acts under it.
- No image is run: an environment with the same packages stands for each, and a container's `python` is its
  Python. Hosts of one job share the machine, its cores and its network, and their names (`algo-1`) do not
  resolve. They start one after another, the first host last. Disk, memory and instance types set no limits.
- A role's credentials are handed out once, at the start, and last as long as the role's sessions do.
- `/opt/ml` belongs to each process alone only where the executor is root on Linux; elsewhere scripts find the
  layout by `MLPIPE_ML_ROOT`, and `/opt/ml` words of the command line are pointed there.
- Glue's automatic retries, pipes, compression, `Continuous` uploads and data that is not on S3 are refused.
- Glue's grace before SIGKILL (10 s) and a processing job's end after its maximum runtime (`Stopped`) are not
  documented by AWS: the first is a choice, the second follows training jobs.
- `POST /_executor/images` adds images, see `image_store`; a job whose image was not added is refused.
- `POST /_executor/faults` injects throttling, errors, latency, lost answers and events; see `call_faults`.
- A pipeline's steps are those of six types; a caller's selection of steps, caching and triggers are refused.
  Where permissions are enforced, a pipeline's role must be allowed what the pipeline calls.
- SageMaker's events go to queues only, and EventBridge's schedules start pipelines only in UTC, by cron.

A restart: after `kill -9` the jobs run on and the next executor on the same state directory adopts them, and
goes on with executions of pipelines; after SIGTERM both are ended and reported as failed. Stop it before the
emulator, so that the last log lines arrive, and allow it 30 seconds.
"""
