"""placeholder, written next"""
from __future__ import annotations
from typing import Any
def engine_problem() -> str | None:
    """x"""
    return "not built yet"
class PostgresService:
    """x"""
    def __init__(self, *a: Any) -> None: ...
    def start(self) -> dict[str, Any]: 
        """x"""
        raise NotImplementedError
    def stop(self) -> None: 
        """x"""
    def clean(self) -> None: 
        """x"""
    def alive(self) -> bool: 
        """x"""
        return False
class RedisService(PostgresService):
    """x"""
