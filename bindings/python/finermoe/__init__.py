"""FineRMoE language models: the runtime libfinermoe for Python.

::

    with finermoe.Model("a-model") as model, model.session() as session:
        for event in session.generate("A lighthouse is", max_tokens=20):
            print(event.text, end="", flush=True)
"""

from __future__ import annotations

import atexit
import threading

from . import _lowlevel, errors
from ._values import Progress
from .batch import Batch
from .chat import Chat, Message
from .config import Config, ConfigInfo, Plan, plan
from .errors import *  # noqa: F403
from .generation import Event, Generation, GenerationInfo, GenerationOptions, GenerationOptionsInfo, Options, Sampler
from .model import ExpertCacheInfo, Model
from .runtime import (Cancel, DeviceInfo, Operation, Runtime, RuntimeInfo, RuntimeOptions, SystemInfo, abi_version,
                      devices, system_info, version)
from .session import Scores, Session, SessionInfo, SessionOptions
from .tokenizer import Decoder, Token, Tokenizer, TokenizerInfo
from .trace import Trace, TraceInfo
from .writers import VerifiedFile, WriterOptions, quantize, synthesize, upcycle, verify

__version__ = version()
__all__ = [
    "Batch", "Cancel", "Chat", "Config", "ConfigInfo", "Decoder", "DeviceInfo", "Event", "ExpertCacheInfo",
    "Generation", "GenerationInfo", "GenerationOptions", "GenerationOptionsInfo", "Message", "Model", "Operation", "Options", "Plan", "Progress",
    "Runtime", "RuntimeInfo", "RuntimeOptions", "Sampler", "Scores", "Session", "SessionInfo", "SessionOptions",
    "SystemInfo", "Token", "Tokenizer", "TokenizerInfo", "Trace", "TraceInfo", "VerifiedFile", "WriterOptions",
    "abi_version", "devices", "plan", "quantize", "synthesize", "system_info", "upcycle", "verify", "version",
]
__all__ += errors.__all__

_lowlevel.set_main_thread(threading.main_thread().ident)
atexit.register(_lowlevel.stop_callbacks)
