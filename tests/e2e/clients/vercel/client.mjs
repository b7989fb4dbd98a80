// What an application on the Vercel AI SDK does, unmodified: prints what it got as JSON.
// Arguments: the base URL of the API.
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, isStepCount, Output, streamText, tool } from "ai";
import { z } from "zod";

const provider = createOpenAICompatible({
  name: "millrace",
  baseURL: process.argv[2],
  apiKey: "unused",
  includeUsage: true,
  supportsStructuredOutputs: true,
});
const base = { model: provider("nano"), temperature: 0, maxOutputTokens: 64, maxRetries: 0 };

const whole = await generateText({ ...base, prompt: "Hello" });

const stream = streamText({ ...base, prompt: "Hello" });
let streamed = "";
for await (const piece of stream.textStream) streamed += piece;

const asked = [];
const calculator = tool({
  description: "Exact arithmetic.",
  inputSchema: z.object({ expression: z.string() }),
  execute: async ({ expression }) => {
    asked.push(expression);
    const [left, right] = expression.split(" * ").map(Number);
    return String(left * right);
  },
});
const worked = await generateText({
  ...base,
  prompt: "What is 17 * 23?",
  tools: { calculator },
  stopWhen: isStepCount(4),
});

const calls = [];
const called = streamText({ ...base, prompt: "What is 3 * 4?", tools: { calculator } });
for await (const part of called.fullStream) if (part.type === "tool-call") calls.push(part.input);

const weather = z.object({
  sky: z.enum(["clear", "grey"]),
  celsius: z.number().int().min(-40).max(50),
});
const structured = await generateText({
  ...base,
  prompt: "Hello",
  output: Output.object({ schema: weather }),
});

console.log(
  JSON.stringify({
    whole: whole.text,
    finish: whole.finishReason,
    streamed,
    usage: await stream.usage,
    worked: worked.text,
    asked,
    calls,
    structured: structured.output,
  }),
);
