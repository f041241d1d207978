"""Glue's and SageMaker's APIs on a laptop: AWS's wire protocol, and the real scripts as local processes.

The executor runs any script that a caller names: by design it executes arbitrary code as the current user.
It therefore listens on the loopback interface only and answers only requests whose `Host` is loopback.

Differences from AWS:

- A caller's signature and permissions are not checked. The job's role is checked, and the job runs under it.
- No image is run. An environment with the same packages replaces each image, and its Python replaces the
  container's `python`. Hosts of one job share the machine, its cores and its network, and their names
  (`algo-1`) do not resolve. They start one after another, the first host last. Disk, memory and instance
  types set no limits.
- A job gets its role's credentials once, at its start. They last as long as the role's sessions.
- Each process has a private `/opt/ml` only if the executor is root on Linux. Elsewhere scripts find the
  layout by `MLPIPE_ML_ROOT`, and `/opt/ml` paths in the command line are replaced.
- Glue's automatic retries, pipes, compression, `Continuous` uploads and data that is not on S3 are refused.
- AWS does not document Glue's grace period before SIGKILL; here it is at most 10 s. Nor does it document the
  state of a processing job that exceeds its maximum runtime; here it is `Stopped`, as for training jobs.
- `POST /_executor/images` adds images, see `image_store`; a job whose image was not added is refused.
- `POST /_executor/faults` injects throttling, errors, latency, lost answers and events; see `call_faults`.
- Pipelines may have steps of six types. Selection of steps by the caller, caching and triggers are refused.
  If permissions are enforced, a pipeline's role must be allowed to make the pipeline's calls.
- SageMaker's events go only to queues. EventBridge's schedules start pipelines only in UTC and by cron.

After `kill -9` the jobs continue, and the next executor with the same state directory adopts them and
continues pipeline executions. SIGTERM ends both and reports them as failed. Stop the executor before the
emulator, so that the last log lines arrive, and allow it 30 seconds.
"""
