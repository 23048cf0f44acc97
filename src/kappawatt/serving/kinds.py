"""The kinds of models: what each fills in of a `Service`. Nothing else asks a model of which kind it is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from kappawatt.errors import SettingInvalid
from kappawatt.models.artifact import Artifact, Manifest
from kappawatt.models.opening import Described
from kappawatt.models.predictor import Model, Predictor
from kappawatt.serving.doors import open_inference, predict, sagemaker
from kappawatt.serving.models import Models
from kappawatt.serving.service import Context, Loop, ModelKind, Service
from kappawatt.serving.stream_worker import stream_worker

if TYPE_CHECKING:
    from flask import Flask

    from kappawatt.bus.interface import Bus
    from kappawatt.evaluation.backtest import Fit
    from kappawatt.forecasting.forecaster import Forecaster
    from kappawatt.forecasting.model import ForecastModel
    from kappawatt.serving.doors.classic import ClassicRows
    from kappawatt.serving.probes import Finding
    from kappawatt.settings import Settings
    from kappawatt.streams.stream import Stream
    from kappawatt.worker.interface import Answers

__all__ = ["forecasts", "predicts"]

FORECAST_RECORDS = 200  # a message may make a forecast due, 40 ms each, and a group expels who does not poll for 30 s


def predicts(predictor: Predictor, *, stream: Stream | None = None, **given: Any) -> Service:
    """Return the service of a model that answers each row by itself.

    Parameters
    ----------
    stream : Stream, optional
        What it answers on the bus.
    **given
        Other parts of `Service`: summary, port, train, backtest.
    """

    def open_model(artifact: Artifact, lookup: Any) -> Model:
        return predictor.open(artifact)

    def doors(app: Flask, context: Context) -> Models[Model]:
        models = Models(context, predictor, predictor.open)
        _add_row_doors(app, context, models)
        return models

    def answers(model: Model, bus: Bus, stream: Stream, output: str, settings: Settings, **_: Any) -> Answers:
        from kappawatt.worker.isolating import Isolating
        from kappawatt.worker.predicting import Answering

        answering = Answering(model, output, stream.dead.name, settings.block_rows, stream.arrival or "")
        return Isolating(answering, stream.dead.name, model.name, model.version)

    def probe(bus: Bus, name: str, stream: Stream, output: str, seconds: float) -> Finding:
        from kappawatt.serving.probes import send_probe

        return send_probe(bus, name, stream, output, seconds)

    def score(model: Model, path: Path) -> dict[str, Any]:
        from kappawatt.evaluation.score import score_file

        return score_file(model, path)

    def sample(manifest: Manifest) -> bytes:
        from kappawatt.serving.samples import sample_row

        return sample_row(predictor, manifest)

    kind = ModelKind(predictor, open_model, doors, answers, probe, score, sample)
    return _service(predictor.name, kind, stream, given)


def forecasts(
    forecaster: Forecaster,
    *,
    stream: Stream | None = None,
    fit: Fit | None = None,
    fit_any_lead: Fit | None = None,
    retrain: str = "weekly",
    classic: ClassicRows | None = None,
    **given: Any,
) -> Service:
    """Return the service of a model that sees histories and answers with the days after them.

    Parameters
    ----------
    stream : Stream, optional
        What it answers on the bus, and where it finds the histories of series that requests only name.
    fit : callable, optional
        How a rolling backtest trains it, see `kappawatt.evaluation.backtest.Fit`.
    fit_any_lead : callable, optional
        How a backtest by lead trains it: to a model that forecasts at any hour and up to seven days ahead.
    retrain : str
        How often the backtest trains if it is not told, a key of `kappawatt.evaluation.backtest.RETRAIN`.
    classic : ClassicRows, optional
        Rows of features or timestamps that `/invocations` answers too, by a plain regression in the same artifact.
    **given
        Other parts of `Service`: summary, port, train.
    """
    from kappawatt.evaluation.backtest import Rolling

    def open_model(artifact: Artifact, lookup: Any) -> ForecastModel:
        from kappawatt.forecasting.model import open_forecaster

        return open_forecaster(forecaster, artifact, lookup)

    def doors(app: Flask, context: Context) -> Models[ForecastModel]:
        from kappawatt.serving.doors import forecast
        from kappawatt.serving.doors.classic import classic_door
        from kappawatt.serving.histories import EXTENSION, follow_histories

        histories = follow_histories(context, forecaster, stream)
        app.extensions[EXTENSION] = histories
        models = Models(context, forecaster, lambda artifact: open_model(artifact, histories.history))
        rows = classic_door(classic, models, context.budget) if classic else sagemaker.no_classic_rows
        _add_row_doors(app, context, models, rows)
        forecast.add_routes(app, context, models, forecaster, histories)
        return models

    def answers(
        model: ForecastModel, bus: Bus, stream: Stream, output: str, settings: Settings, **patience: Any
    ) -> Answers:
        from kappawatt.forecasting.holidays import holidays_set
        from kappawatt.worker.forecasting import Forecasting
        from kappawatt.worker.isolating import Isolating
        from kappawatt.worker.updates import updates_of

        updates = updates_of(settings.forecast_updates, settings.forecast_days, forecaster)
        holidays = holidays_set(settings.holidays)
        forecasting = Forecasting(bus, model, stream, output=output, updates=updates, holidays=holidays, **patience)
        return Isolating(forecasting, stream.dead.name, model.name, model.version)

    def probe(bus: Bus, name: str, stream: Stream, output: str, seconds: float) -> Finding:
        from kappawatt.serving.probes import newest_forecast

        return newest_forecast(bus, name, stream, output)

    def score(model: ForecastModel, path: Path) -> dict[str, Any]:
        raise SettingInvalid(f"{model.name} forecasts: kappawatt backtest {model.name} --data FILE scores it")

    def sample(manifest: Manifest) -> bytes:
        from kappawatt.serving.samples import sample_series

        return sample_series(forecaster, manifest)

    def footprint(in_worker: bool) -> int:
        from kappawatt.worker.footprint import series_bytes

        return series_bytes(forecaster, forecaster.supposed_step or min(forecaster.steps), in_worker=in_worker)

    kind = ModelKind(
        forecaster,
        open_model,
        doors,
        answers,
        probe,
        score,
        sample,
        looks_back=forecaster.depth,
        needs_history=True,
        most_records=FORECAST_RECORDS,
        rolling=None if fit is None else Rolling(forecaster, fit, retrain, fit_any_lead),
        series_bytes=footprint,
    )
    return _service(forecaster.name, kind, stream, given, forecaster.levels)


def _add_row_doors(
    app: Flask, context: Context, models: Models[Any], classic: sagemaker.Classic = sagemaker.no_classic_rows
) -> None:
    """Add the protocols that ask row by row, which every model answers."""
    predict.add_routes(app, context, models)
    open_inference.add_routes(app, context, models)
    sagemaker.add_routes(app, context, models, classic)


def _service(
    name: str, kind: ModelKind[Any], stream: Stream | None, given: dict[str, Any], levels: tuple[float, ...] = ()
) -> Service:
    """Return a service; `levels` are those of its forecasts, if it gives any."""
    if stream is None:
        return Service(name=name, model=kind, **given)
    _check_stream(name, kind.predictor, stream, levels)

    def work(app: Flask, context: Context) -> Loop:
        return stream_worker(kind, stream, context)

    return Service(name=name, model=kind, stream=stream, work=work, **given)


def _check_stream(name: str, predictor: Described, stream: Stream, levels: tuple[float, ...]) -> None:
    """Refuse a service whose stream is another's: its answers would not be understood."""
    for field, got, allowed in (
        ("service", stream.service, name),
        ("target", stream.target, predictor.target),
        ("readings", stream.schema.name, predictor.request.name),
        ("levels", stream.levels, levels or stream.levels),
    ):
        if got != allowed:
            raise SettingInvalid.of(f"stream {stream.name}: {field}", got, f"{allowed}, which {name} has")
