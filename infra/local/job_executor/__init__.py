"""Glue's and SageMaker's job APIs on a laptop: AWS's wire protocol in front, the real script behind.

The executor runs any script that a caller names: by design it executes arbitrary code as the current user.
It therefore listens on the loopback interface only and answers only requests whose `Host` is loopback.
"""
