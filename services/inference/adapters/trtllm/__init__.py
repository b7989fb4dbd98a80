"""TensorRT-LLM as an engine (ADR 0034). `library` alone imports `tensorrt_llm`."""
