"""What a worker does with a message: a step of a session, a stateless completion, an abort."""

from services.inference.handlers.engine_chat import EngineChat
from services.inference.handlers.inference import Inference, Model

__all__ = ["EngineChat", "Inference", "Model"]
