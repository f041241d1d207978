"""`python -m mlpipe_dagster.cli`."""

import sys

from mlpipe_dagster.cli.main import main

sys.exit(main())
