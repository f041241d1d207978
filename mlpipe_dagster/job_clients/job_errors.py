"""What the job clients raise; without any AWS library, so that definitions may import it."""


class JobDeadlineError(Exception):
    """A job did not come to its end in the time it was given."""


class JobApiError(Exception):
    """What became of a job is not known: its service did not answer in time. The job may well go on."""


class SageMakerJobError(Exception):
    """A SageMaker job ended otherwise than completed; the message ends with its own log's last lines."""


class GlueJobError(Exception):
    """A Glue job run ended otherwise than succeeded; the message ends with its own log's last lines."""


class JobNotStartedError(GlueJobError):
    """Glue has started no job run: it had no room in time, or refuses."""
