"""What a worker does with a message: a step of a session, a stateless completion, an abort."""

from services.inference.handlers.generating import Model
from services.inference.handlers.inference import Inference

__all__ = ["Inference", "Model"]
