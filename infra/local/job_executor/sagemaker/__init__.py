"""SageMaker's API: jobs, model packages, pipelines, events and schedules."""
