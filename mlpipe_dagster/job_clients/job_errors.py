"""The errors of the job clients, without any AWS library, so that definitions may import them."""


class JobDeadlineError(Exception):
    """A job did not end in time."""


class JobApiError(Exception):
    """The state of a job is unknown because its service did not answer in time; the job may still run."""


class SageMakerJobError(Exception):
    """A SageMaker job did not complete; the message ends with the last lines of its log."""


class GlueJobError(Exception):
    """A Glue job run did not succeed; the message ends with the last lines of its log."""


class JobNotStartedError(GlueJobError):
    """Glue started no job run: it had no capacity in time, or refused."""
