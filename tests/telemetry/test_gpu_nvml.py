"""NVML directly: every getter may fail by itself, and so may all of it."""

import threading
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest

from gateway.core.vitals import Reason
from gateway.telemetry.gpu_nvml import NvmlReader
from gateway.telemetry.poller import NoAnswer

pytestmark = pytest.mark.anyio

ANSWERS: dict[str, Any] = {
    "nvmlDeviceGetUUID": "GPU-a",
    "nvmlDeviceGetName": b"NVIDIA H100",
    "nvmlDeviceGetTemperatureV": 61,
    "nvmlDeviceGetPowerUsage": 512400,
    "nvmlDeviceGetClockInfo": 1230,
    "nvmlDeviceGetMaxClockInfo": 1980,
    "nvmlDeviceGetUtilizationRates": SimpleNamespace(gpu=88, memory=10),
    "nvmlDeviceGetCurrentClocksEventReasons": 0x60,
    "nvmlDeviceGetFieldValues": [SimpleNamespace(nvmlReturn=0, value=SimpleNamespace(uiVal=74))],
}


class Driver:
    """pynvml's functions with a driver behind them that this machine lacks; errors and constants are pynvml's own."""

    NVMLError = pynvml.NVMLError

    def __init__(self, **answers: object) -> None:
        self.answers: dict[str, Any] = {
            "nvmlInit": None,
            "nvmlDeviceGetCount": 1,
            "nvmlDeviceGetHandleByIndex": "handle",
            **ANSWERS,
            **answers,
        }
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("NVML_"):
            return getattr(pynvml, name)
        if name not in self.answers:
            raise AttributeError(name)

        def call(*_: object) -> Any:
            self.calls.append(name)
            answer = self.answers[name]
            if isinstance(answer, int) and not isinstance(answer, bool) and answer < 0:
                raise pynvml.NVMLError(-answer)
            return answer

        return call


def failing(error: int) -> int:
    """As an answer: the getter raises this error."""
    return -error


def reader(driver: Driver) -> NvmlReader:
    return NvmlReader(host="node1", timeout_s=10.0, load=lambda: driver)


async def test_a_gpu() -> None:
    """Watts and shares, whatever NVML counts in."""
    (gpu,) = await reader(Driver()).read()
    assert gpu.names == {"a", "node1:0"}
    assert (gpu.model, gpu.temp_c, gpu.memory_temp_c, gpu.power_w) == ("NVIDIA H100", 61, 74, 512.4)
    assert (gpu.clock_mhz, gpu.top_clock_mhz, gpu.busy_ratio, gpu.lost) == (1230, 1980, 0.88, False)
    assert gpu.reasons == {Reason.SW_THERMAL, Reason.HW_THERMAL}


@pytest.mark.parametrize("getter", sorted(ANSWERS))
async def test_every_getter_may_not_be_supported(getter: str) -> None:
    """Then that figure is unknown, never 0, and the others are there."""
    driver = Driver(**{getter: failing(pynvml.NVML_ERROR_NOT_SUPPORTED)})
    whole, (gpu,) = (await reader(Driver()).read())[0], await reader(driver).read()
    told = {name: getattr(gpu, name) for name in gpu.__dataclass_fields__}
    differs = {name for name, value in told.items() if value != getattr(whole, name)}
    assert len(differs) == 1
    assert told[differs.pop()] is None


async def test_older_drivers_and_libraries() -> None:
    """They know some getters by older names, or not at all."""
    driver = Driver(nvmlDeviceGetCurrentClocksThrottleReasons=0x8, nvmlDeviceGetTemperature=50)
    del driver.answers["nvmlDeviceGetTemperatureV"]
    driver.answers["nvmlDeviceGetCurrentClocksEventReasons"] = failing(pynvml.NVML_ERROR_FUNCTION_NOT_FOUND)
    (gpu,) = await reader(driver).read()
    assert (gpu.temp_c, gpu.reasons) == (50, {Reason.HW_SLOWDOWN})


@pytest.mark.parametrize("field", [SimpleNamespace(nvmlReturn=3, value=None), None])
async def test_a_memory_without_a_sensor(field: object) -> None:
    """Each field has a result of its own."""
    (gpu,) = await reader(Driver(nvmlDeviceGetFieldValues=[field] if field else [])).read()
    assert gpu.memory_temp_c is None


@pytest.mark.parametrize("error", [pynvml.NVML_ERROR_GPU_IS_LOST, pynvml.NVML_ERROR_RESET_REQUIRED])
async def test_a_lost_gpu(error: int) -> None:
    """It keeps the name that it had, and nothing more is asked of it."""
    driver = Driver()
    built = reader(driver)
    await built.read()
    driver.answers["nvmlDeviceGetPowerUsage"] = failing(error)
    driver.calls.clear()
    (gpu,) = await built.read()
    assert (gpu.lost, gpu.names, gpu.temp_c) == (True, {"a", "node1:0"}, None)
    assert driver.calls[-1] == "nvmlDeviceGetPowerUsage"
    driver.answers["nvmlDeviceGetHandleByIndex"] = failing(error)
    (gpu,) = await built.read()
    assert (gpu.lost, gpu.names) == (True, {"a", "node1:0"})


async def test_no_driver() -> None:
    """The library itself, on a machine without one."""
    built = NvmlReader(host=None, timeout_s=10.0)
    with pytest.raises(NoAnswer, match=r"NVML: NVML Shared Library Not Found|NVML: Driver Not Loaded"):
        await built.read()


async def test_no_library() -> None:
    """The extra is optional."""

    def load() -> object:
        raise ImportError

    with pytest.raises(NoAnswer, match=r"vllm-gateway\[nvml\]"):
        await NvmlReader(host=None, timeout_s=10.0, load=load).read()


async def test_a_driver_that_is_loaded_anew() -> None:
    """It is initialised again after it was gone."""
    driver = Driver(nvmlDeviceGetCount=failing(pynvml.NVML_ERROR_UNINITIALIZED))
    built = reader(driver)
    with pytest.raises(NoAnswer, match="NVML: Uninitialized"):
        await built.read()
    driver.answers["nvmlDeviceGetCount"] = 1
    assert len(await built.read()) == 1
    assert driver.calls.count("nvmlInit") == 2


async def test_a_driver_that_hangs() -> None:
    """The loop goes on, and no second thread is begun while the first hangs."""
    release = threading.Event()
    driver = Driver()

    def hang() -> object:
        release.wait(30)
        return driver

    built = NvmlReader(host=None, timeout_s=0.01, load=hang)
    try:
        for _ in range(2):
            with pytest.raises(NoAnswer, match="the driver did not answer in"):
                await built.read()
    finally:
        release.set()
    assert driver.calls.count("nvmlInit") <= 1
