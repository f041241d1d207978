"""Addresses of a job and of its log in the AWS console, built from region and names alone."""

from __future__ import annotations

from urllib.parse import quote

# Partitions of AWS whose console lies elsewhere, by what their regions' names begin with.
_OTHER_CONSOLES = {"cn-": "console.amazonaws.cn", "us-gov-": "console.amazonaws-us-gov.com"}
_PROCESSING = "Processing"


def sagemaker_job_page(region: str, job_type: str, name: str) -> str:
    """Return the address of a processing or training job."""
    kind = "processing-jobs" if job_type == _PROCESSING else "jobs"
    return f"{_console(region)}/sagemaker/home?region={region}#/{kind}/{quote(name, safe='')}"


def glue_job_run_page(region: str, job: str, run_id: str) -> str:
    """Return the address of a job run."""
    return (
        f"{_console(region)}/gluestudio/home?region={region}"
        f"#/job/{quote(job, safe='')}/run/{quote(run_id, safe='')}"
    )


def log_page(region: str, group: str, stream_prefix: str) -> str:
    """Return the address of the streams of a CloudWatch log group whose names begin with a prefix."""
    # CloudWatch's page decodes its fragment twice, with `$` for `%` the second time.
    named = [quote(quote(text, safe=""), safe="").replace("%", "$") for text in (group, stream_prefix)]
    return (
        f"{_console(region)}/cloudwatch/home?region={region}"
        f"#logsV2:log-groups/log-group/{named[0]}$3FlogStreamNameFilter$3D{named[1]}"
    )


def _console(region: str) -> str:
    for beginning, host in _OTHER_CONSOLES.items():
        if region.startswith(beginning):
            return f"https://{region}.{host}"
    return f"https://{region}.console.aws.amazon.com"
