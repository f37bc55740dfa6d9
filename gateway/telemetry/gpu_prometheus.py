"""A Prometheus server that already scrapes GPU exporters: one query gives all their series. Pure.

Source: prometheus.io/docs/prometheus/latest/querying/api. A range of raw samples is asked for and not an instant: the
time of an instant's value is that of the question, also when the exporter has been dead for minutes.
"""

from collections.abc import Iterator

import msgspec

from gateway.core.vitals import GpuSample
from gateway.engines.exposition import Sample, number
from gateway.telemetry import gpu_amd, gpu_dcgm, gpu_nvidia_smi

PATH = "/api/v1/query"
LOOK_BACK_S = 60
"""The newest sample of this time counts; Prometheus' usual interval is 15 to 60 s."""

_DIALECTS = (gpu_dcgm, gpu_nvidia_smi, gpu_amd)
QUERY = f'{{__name__=~"{"|".join(name for dialect in _DIALECTS for name in dialect.NAMES)}"}}[{LOOK_BACK_S}s]'


class _Series(msgspec.Struct):
    metric: dict[str, str]
    values: list[tuple[float, str]]


class _Data(msgspec.Struct):
    result: list[_Series]


class _Answer(msgspec.Struct):
    data: _Data


_decoder = msgspec.json.Decoder(_Answer)


def parse(body: bytes) -> list[Sample] | None:
    """The newest sample of each series; `None` if this is no matrix of Prometheus."""
    try:
        answer = _decoder.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
    return list(_newest(answer.data.result))


def _newest(result: list[_Series]) -> Iterator[Sample]:
    for series in result:
        if series.values and (name := series.metric.pop("__name__", "")):
            at, value = series.values[-1]
            yield Sample(name, series.metric, number(value), at)


def gpus(samples: list[Sample], host: str | None, wall: float) -> list[GpuSample]:
    """The GPUs of all exporters that it scrapes."""
    found: list[GpuSample] = []
    for dialect in _DIALECTS:
        names = frozenset(dialect.NAMES)
        found += dialect.gpus((sample for sample in samples if sample.name in names), host, wall)
    return found
