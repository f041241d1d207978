"""`python -m flights.weather_service`."""

import sys

from flights.weather_service.server import main

sys.exit(main())
