"""What every engine and every model must do, and the engines held to it.

Three suites, because there are three borders (`services/inference/ports.py`):

* `EngineSuite` (engine_suite.py) for an `Engine`: tokens in, tokens out.
* `ChatSuite` (chat_suite.py) for a `ChatModel`: messages in, text and calls out.
* `EmbeddingSuite` (embedding_suite.py) for a model that `Embeds`: inputs in, vectors out.

An engine is held to both, the second one through `EngineChat`; an endpoint only to the second. To
hold another one to them, write a test module that inherits and gives a fixture `make`:

    class TestMine(EngineSuite):
        @pytest.fixture
        def make(self) -> MakeHarness:
            def build(*, max_sequences: int = 16, kv_blocks: int = 64) -> Harness:
                engine = MyEngine(max_sequences, kv_blocks)
                return Harness(engine, engine.fail_next_step, engine.break_next_step)
            return build

    @pytest.fixture(scope="module", name="make")
    def my_chat() -> MakeChat:
        return lambda: ChatHarness(MyModel(), lacks=frozenset({"logprobs"}))

    class TestMyChat(ChatSuite):
        pass  # nothing else

What a model is without stands in its harness (`lacks`) and shows up as a skip with that reason;
where the port promises a refusal, the suite asks for what is lacking and wants to be refused. A
harness whose model can be told what to say gives `says` and `calls`; without them the suite steers
the answer by constrained decoding, and works from whatever the model says by itself.
"""
