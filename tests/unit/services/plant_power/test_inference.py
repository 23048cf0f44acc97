"""What is served: its sums, its bits whatever the batch, and its file."""

from __future__ import annotations

import io
from dataclasses import fields, replace

import numpy as np
import pytest

from kappawatt.datasets.named import synthetic_plant
from kappawatt.errors import ArtifactInvalid
from kappawatt.services.plant_power.features import FEATURE_NAMES, features
from kappawatt.services.plant_power.inference import OUTPUT_NAMES, Fitted, FittedBaseline, FittedModel, pack, unpack
from kappawatt.services.plant_power.kernels import spread_out, through_centres
from kappawatt.services.plant_power.model import CENTRES, Parameters, _near, build_baseline, build_model

MOST_ROWS = 100_000
STEP = 0.001  # MW, to which answers are rounded


@pytest.fixture(scope="module")
def model() -> FittedModel:
    """The default, fitted to a small synthetic plant."""
    plant = synthetic_plant(400, seed=3)
    return build_model().fit(features(plant), plant["net_power"])


@pytest.fixture(scope="module", params=["baseline", "default"])
def fitted(request: pytest.FixtureRequest, model: FittedModel) -> Fitted:
    """Each regression, fitted to it."""
    if request.param == "default":
        return model
    plant = synthetic_plant(400, seed=3)
    return build_baseline().fit(features(plant), plant["net_power"])


@pytest.fixture(scope="module")
def matrix() -> np.ndarray:
    """Features of many rows."""
    return features(synthetic_plant(MOST_ROWS, seed=4))


@pytest.fixture(scope="module")
def together(fitted: Fitted, matrix: np.ndarray) -> dict[str, np.ndarray]:
    """Answers for all rows in one batch."""
    return fitted.predict(matrix)


@pytest.mark.parametrize("rows", [*range(1, 71), 255, 256, 257, 511, 512, 513, 1_000, 5_000])
def test_a_batch_gives_the_bits_the_whole_gives(
    fitted: Fitted, matrix: np.ndarray, together: dict[str, np.ndarray], rows: int
) -> None:
    """A replay reads other batches than the live stream did, and must publish the same numbers."""
    for start in (*range(0, 30 * rows, rows), MOST_ROWS - rows):
        answer = fitted.predict(matrix[start : start + rows])
        for name, values in answer.items():
            assert np.array_equal(values, together[name][start : start + rows])


@pytest.mark.parametrize("rows", [1, 2, 3, 7, 8, 9, 15, 16, 17, 33, 100, 600])
def test_sums_have_equal_bits_before_they_are_rounded(model: FittedModel, matrix: np.ndarray, rows: int) -> None:
    """Rounding to 1 kW hides nothing: the sums themselves do not depend on the rows around."""
    whole = np.concatenate([model._evaluate(matrix[i : i + 500]) for i in range(0, 5_000, 500)], axis=1)
    generator = np.random.default_rng(rows)

    for _ in range(50):
        chosen = generator.integers(0, 5_000, rows)
        assert np.array_equal(model._evaluate(matrix[chosen]), whole[:, chosen])


def test_layout_and_place_in_memory_change_no_bit(
    fitted: Fitted, matrix: np.ndarray, together: dict[str, np.ndarray]
) -> None:
    """Columns first, every third row, and rows that start at any 4 bytes."""
    width = matrix.shape[1]
    shifted = np.empty(300 * width + 16, dtype=np.float32)
    cases = [np.asfortranarray(matrix[:300]), matrix[:900:3]]
    for offset in range(16):
        case = shifted[offset : offset + 300 * width].reshape(300, width)
        case[:] = matrix[:300]
        cases.append(case.copy() if offset == 0 else case)
        for rows in (1, 2, 17, 300):
            assert np.array_equal(fitted.predict(case[:rows])["net_power"], together["net_power"][:rows])
    assert np.array_equal(fitted.predict(cases[0])["net_power_upper"], together["net_power_upper"][:300])
    assert np.array_equal(fitted.predict(cases[1])["net_power_upper"], together["net_power_upper"][:900:3])


INF = np.inf
BY_HAND = FittedModel(
    lines=np.array([[400.0, -2, 0.5, 0, 0], [1.0, 0, 0, 0, 0], [1.0, 0.1, 0, 0, 0], [1.0, 0, 0, 0, 0]]),
    trend_scales=np.array([2.0, 4.0, INF, INF, INF]),
    day_scales=np.array([20.0, 0.0005, INF, INF, 2.0]),
    centres=np.array([[12, 40, 0, 0, 0]], dtype=np.float32),
    centre_weights=np.array([[3.0], [0.2], [-2.0], [0.1]]),
    rows=np.array([[10, 40, 0, 0, 9], [10, 40.01, 0, 0, 8], [10, 50, 0, 0, 8]], dtype=np.float32),
    row_weights=np.array([[5.0, 1e6, 1e6], [0.1, 1e6, 1e6]]),
    reach=0.004,
    half_familiar=0.5,
    edge=0.5,
    doubt=100.0,
)


def test_sums_follow_their_formula() -> None:
    """One centre and one hour of the same vacuum, by hand; 0.01 cm Hg away is another day."""
    row = np.array([[10, 40, 1000, 50, 8]], dtype=np.float32)
    trend = (1 + np.sqrt(3)) * np.exp(-np.sqrt(3))  # one length scale away, in temperature
    hour = np.exp(-0.5)  # half a scale in dew point
    known = hour / (hour + 0.5)
    power = 400 - 2 * 10 + 0.5 * 40 + 3 * trend + 5 * hour + (1 - known) * (1 + 0.1 * 10 - 2 * trend)
    log_half = known * (1 + 0.2 * trend + 0.1 * hour) + (1 - known) * (2 + 0.3 * trend)
    half_width = np.sqrt(np.exp(2 * log_half) + 100 * (1 - known) * (1 - (trend / 0.5) ** 2))

    answer = BY_HAND.predict(row)

    assert trend < BY_HAND.edge
    assert answer["net_power"] == pytest.approx(power, abs=0.6 * STEP)
    assert answer["net_power_lower"] == pytest.approx(power - half_width, abs=0.6 * STEP)
    assert answer["net_power_upper"] == pytest.approx(power + half_width, abs=0.6 * STEP)


def test_interval_widens_with_the_distance_from_what_was_seen() -> None:
    """From an hour of the very same air, over other air of that vacuum, to another vacuum and to conditions far off."""
    steps = [[10, 40, 1000, 50, 9], [10, 40, 1000, 50, 12], [10, 40.1, 1000, 50, 9], [25, 40.1, 1000, 50, 9]]

    answer = BY_HAND.predict(np.array(steps, dtype=np.float32))
    width = answer["net_power_upper"] - answer["net_power_lower"]

    assert (np.diff(width) > 0.1).all()


def test_rows_out_of_reach_would_change_next_to_nothing(model: FittedModel, matrix: np.ndarray) -> None:
    """Against the sum over all training rows."""
    every_row = replace(model, reach=1e6)

    near, whole = model.predict(matrix[:2_000]), every_row.predict(matrix[:2_000])

    for name in OUTPUT_NAMES:
        assert near[name] == pytest.approx(whole[name], abs=0.02)


def test_centres_carry_the_trend_of_all_rows() -> None:
    """At rows it was not told of, to a hundredth of what the trend spans."""
    parameters = Parameters()
    kernel, carrier = parameters.trend, parameters.carrier
    rows, others = (features(synthetic_plant(1_500, seed)) for seed in (3, 4))
    weights = np.random.default_rng(0).normal(size=(2, len(rows)))
    whole = kernel.correlation(others, rows) @ weights.T
    centres = rows[spread_out(carrier.scaled(rows), CENTRES)]
    places = np.concatenate([rows, _near(rows, carrier, seed=0)])

    found = through_centres(carrier.correlation(places, centres), kernel.correlation(places, rows) @ weights.T)
    carried = carrier.correlation(others, centres) @ found.T

    assert len(centres) == CENTRES
    assert np.sqrt(np.mean((carried - whole) ** 2, axis=0)) == pytest.approx(0, abs=0.01 * np.ptp(whole))


def test_popular_vacuum_is_answered_in_bounded_memory(model: FittedModel) -> None:
    """A plant that always says the same vacuum has every training row in reach of every row."""
    import tracemalloc

    rows = np.tile(model.rows, (20, 1))
    rows[:, 1] = 50.0
    crowded = replace(model, rows=rows, row_weights=np.tile(model.row_weights, (1, 20)))

    tracemalloc.start()
    try:
        crowded.predict(rows[:5_000])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak < 50e6


def test_no_rows_have_no_answers(fitted: Fitted) -> None:
    """Empty columns, not an error."""
    answer = fitted.predict(np.empty((0, len(FEATURE_NAMES)), dtype=np.float32))

    assert {name: values.shape for name, values in answer.items()} == dict.fromkeys(OUTPUT_NAMES, (0,))


def test_file_gives_back_every_bit(fitted: Fitted, matrix: np.ndarray, together: dict[str, np.ndarray]) -> None:
    """And has the same bytes each time, so that its hash names the model."""
    content = pack(fitted)
    loaded = unpack(content)

    assert type(loaded) is type(fitted)
    for field in fields(fitted):
        assert np.array_equal(getattr(loaded, field.name), getattr(fitted, field.name))
    for name, values in loaded.predict(matrix[:500]).items():
        assert np.array_equal(values, together[name][:500])
    assert pack(loaded) == content


def test_damaged_file_is_an_invalid_artifact(fitted: Fitted) -> None:
    """Wherever it is cut or changed: refused, or the very same numbers."""
    content = pack(fitted)
    generator = np.random.default_rng(0)
    for length in (0, 1, 30, len(content) // 2, len(content) - 1):
        with pytest.raises(ArtifactInvalid):
            unpack(content[:length])
    for place in generator.integers(0, len(content), 300):
        damaged = bytearray(content)
        damaged[place] ^= int(generator.integers(1, 256))
        try:
            loaded = unpack(bytes(damaged))
        except ArtifactInvalid:
            continue
        assert pack(loaded) == content


def test_nothing_is_unpickled() -> None:
    """An array of objects would run whatever code it names."""
    line = FittedBaseline(np.zeros(5), 1.0)
    for linear in (np.array([line] * 5, dtype=object), np.array([print], dtype=object)):
        buffer = io.BytesIO()
        np.savez(buffer, linear=linear, half_width=1.0)
        with pytest.raises(ArtifactInvalid, match="pickle"):
            unpack(buffer.getvalue())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("linear", np.zeros(4)),
        ("linear", np.full(5, np.nan)),
        ("linear", np.zeros(5, dtype=np.float32)),
        ("half_width", np.zeros(1)),
        ("half_width", np.array("wide")),
    ],
)
def test_array_of_another_shape_or_type_is_named(name: str, value: np.ndarray) -> None:
    """The message says which array, what it is and what it should be."""
    arrays = {"linear": np.zeros(5), "half_width": np.array(1.0)} | {name: value}
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)

    with pytest.raises(ArtifactInvalid, match=f"{name}: got .* allowed float64"):
        unpack(buffer.getvalue())


def test_file_of_other_arrays_is_refused() -> None:
    """Neither regression."""
    buffer = io.BytesIO()
    np.savez(buffer, slopes=np.zeros(5))

    with pytest.raises(ArtifactInvalid, match="slopes"):
        unpack(buffer.getvalue())
