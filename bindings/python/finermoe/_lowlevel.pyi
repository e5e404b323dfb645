# What SWIG makes from finermoe.h (bindings/finermoe.i), one function for each of the header's.
from typing import Any

def __getattr__(name: str) -> Any: ...
