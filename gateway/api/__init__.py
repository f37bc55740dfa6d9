"""Starlette's side: everything that is not hot. Two applications, one for each port."""

from gateway.api.admin import admin_app
from gateway.api.public import public_app

__all__ = ["admin_app", "public_app"]
