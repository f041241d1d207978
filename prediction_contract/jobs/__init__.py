"""The arguments, schedules, code and documents of Glue and SageMaker jobs."""
