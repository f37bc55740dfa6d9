"""How the dashboard's figures tell of the last reload of the config."""

import msgspec


class ReloadRow(msgspec.Struct, frozen=True, kw_only=True):
    """`at`: unix seconds of the last reload, taken or not. `refused_at`, `errors`: of the last that was refused.

    `needs_restart`: keys that the last good one would change, which takes a restart.
    """

    at: float
    ok: bool
    refused_at: float | None = None
    errors: list[str] = []
    needs_restart: list[str] = []
