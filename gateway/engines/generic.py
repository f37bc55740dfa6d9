"""Any other server with OpenAI's API: nothing is known of its metrics."""

from gateway.core.vitals import EngineFigures


class Generic:
    metrics_path = None

    def read(self, page: bytes, wall: float) -> EngineFigures | None:
        return None
