"""A source of a format of its own: one fixed-width text per day."""

import pandas as pd


class Weather:
    """Forecasts are made the evening before, so a day's own file is known when the day begins."""

    point_in_time = True

    def read(self, partition, files):
        rows = []
        for day in [*files.earlier(), partition]:
            content = files.find(files.path(day))
            if content is not None:
                rows += [
                    (day, line[:12].strip(), float(line[12:18])) for line in content.decode().splitlines()
                ]
        return pd.DataFrame(rows, columns=["day", "station", "degrees"])
