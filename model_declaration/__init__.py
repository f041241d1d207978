"""What a model's `defs.yaml` declares, as typed and validated data; the only reader of these files.

Dagster, the infrastructure and the command line all read by it. It imports neither Dagster nor AWS.
"""
