import datetime
import warnings

import numpy as np
import pandas as pd
import pytest

from seqlab.datasets.log import make_log
from seqlab.datasets.timestamps import unix_seconds
from seqlab.runtime.text import DataError


def dates(values) -> list[str]:
    times = unix_seconds(pd.Series(values, name="when"), "a.csv")[0]
    return [str(one) for one in pd.to_datetime(times, unit="s").round("ms")]


@pytest.mark.parametrize("kind", [np.int64, np.float64, str])
@pytest.mark.parametrize(
    ("values", "moments"),
    [
        ([20190704, 20190705], ["2019-07-04 00:00:00", "2019-07-05 00:00:00"]),
        ([2019070408, 2019070523], ["2019-07-04 08:00:00", "2019-07-05 23:00:00"]),
        ([201907040815, 201907052359], ["2019-07-04 08:15:00", "2019-07-05 23:59:00"]),
        ([20190704081530, 20000229235959], ["2019-07-04 08:15:30", "2000-02-29 23:59:59"]),
    ],
)
def test_dates_written_as_one_number_are_dates(values, moments, kind):
    assert dates(np.array(values).astype(kind)) == moments


def test_numbers_that_are_no_dates_stay_times_since_1970_or_counters():
    assert dates([20190704081530123]) == ["2019-07-04 08:15:30.123000"]
    assert unix_seconds(pd.Series([0, 1, 20_190_704]), "")[0].tolist() == [0, 1, 20_190_704]
    assert unix_seconds(pd.Series(range(20_190_700, 20_190_799)), "")[0][0] == 20_190_700
    assert unix_seconds(pd.Series([1_562_227_200, 1_562_227_261]), "")[0].tolist() == [1_562_227_200, 1_562_227_261]
    assert dates([946_684_800_000, 978_307_199_000]) == ["2000-01-01 00:00:00", "2000-12-31 23:59:59"]
    with pytest.raises(DataError, match=r"'when' has 1 timestamps that cannot be read, such as '20190231': row 1 "):
        dates([20190228, 20190231, 20190301])
    with pytest.raises(DataError, match=r"be the year 2610.*ISO 8601"):
        dates([20199931000000, 20199932000000])


def test_the_days_of_a_spreadsheet_are_dates_if_they_have_fractions():
    for values in ([43650.25, 43651.75], ["43650.25", "43651.75"]):
        assert dates(values) == ["2019-07-04 06:00:00", "2019-07-05 18:00:00"]
    assert dates([43650.34375]) == ["2019-07-04 08:15:00"]
    times, notes = unix_seconds(pd.Series([43650, 43651]), "")
    assert times.tolist() == [43650, 43651] and "(43650 is 2019-07-04 00:00), write them as ISO 8601" in notes[0]
    assert unix_seconds(pd.Series([12.5, 43650.25]), "")[0].tolist() == [12.5, 43650.25]


def test_utc_may_stand_after_a_date():
    values = ["2020-02-01 10:00:00 UTC", "2020-02-01T10:00:01.5 GMT", "2020-02-01 10:00:02 +0000 UTC"]
    assert dates(values) == ["2020-02-01 10:00:00", "2020-02-01 10:00:01.500000", "2020-02-01 10:00:02"]
    with pytest.raises(DataError, match="PST"):
        dates(["2020-02-01 10:00:00 PST"])


@pytest.mark.parametrize("kind", ["timestamp[us, tz=Asia/Tokyo]", "timestamp[ns]", "date32[day]"])
def test_arrow_times_are_read_without_a_warning(kind):
    moments = pd.date_range("2020-02-01 09:00", periods=2, tz="Asia/Tokyo" if "tz" in kind else None)
    values = [one.date() for one in moments] if "date" in kind else moments
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        times = unix_seconds(pd.Series(pd.array(values, dtype=f"{kind}[pyarrow]")), "")[0]
    first = {"t": 0, "d": 0}[kind[0]] + (9 * 3600 if kind == "timestamp[ns]" else 0)
    assert (times - datetime.datetime(2020, 2, 1, tzinfo=datetime.UTC).timestamp()).tolist() == [first, first + 86_400]


@pytest.mark.parametrize(
    ("stamps", "unit"),
    [
        ([1_500_000_000, 1_500_000_060], "seconds"),
        ([1_500_000_000_000, 1_500_000_060_000], "milliseconds"),
        ([1_500_000_000_000_000, 1_500_000_060_000_000], "microseconds"),
        ([1_500_000_000_000_000_000, 1_500_000_060_000_000_000], "nanoseconds"),
        (["2017-07-14T02:40:00", "2017-07-14 02:41"], "ISO 8601"),
        (["1500000000", "1500000060"], "seconds"),
        (["2017-07-14T04:40:00+02:00", "2017-07-14T02:41:00Z"], "ISO 8601"),
        (pd.to_datetime(["2017-07-14 02:40", "2017-07-14 02:41"]), "datetimes"),
        (
            pd.to_datetime(["2017-07-14 02:40", "2017-07-14 02:41"]).tz_localize("UTC").tz_convert("Asia/Tokyo"),
            "datetimes",
        ),
    ],
)
def test_times_of_every_kind_become_unix_seconds(stamps, unit):
    log = make_log(pd.DataFrame({"user": [1, 1], "item": [1, 2], "timestamp": stamps}))
    assert log.events["timestamp"].tolist() == [1_500_000_000.0, 1_500_000_060.0]
    assert any(unit in note for note in log.notes)
