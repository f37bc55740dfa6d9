// OpenAI's SDK for Node against the gateway whose base URL is the argument; what it sees goes to stdout as JSON.
import OpenAI, { toFile } from "openai"

const client = new OpenAI({ baseURL: process.argv[2], apiKey: "unused", maxRetries: 0, timeout: 30_000 })
const hello = { model: "emulated", messages: [{ role: "user", content: "Hello!" }], max_tokens: 20 }
const tools = JSON.parse(process.argv[3])
const seen = {}

seen.whole = (await client.chat.completions.create(hello)).choices[0].message.content

const stream = await client.chat.completions.create({ ...hello, stream: true, stream_options: { include_usage: true } })
seen.chunks = 0
seen.streamed = ""
for await (const chunk of stream) {
  seen.chunks += 1
  seen.streamed += chunk.choices[0]?.delta?.content ?? ""
  seen.usage = chunk.usage?.completion_tokens
}

const long = await client.chat.completions.create({ ...hello, max_tokens: 5000, stream: true })
for await (const chunk of long) {
  if (chunk.choices[0]?.delta?.content) break // leaves: the SDK aborts the request
}

const helper = client.chat.completions.stream({ ...hello, tools: [tools], tool_choice: "required", max_tokens: 200 })
const call = (await helper.finalChatCompletion()).choices[0].message.tool_calls[0].function
seen.tool = [call.name, JSON.parse(call.arguments)]

seen.responses = ""
for await (const event of await client.responses.create({ model: "emulated", input: "Hello!", max_output_tokens: 20, stream: true })) {
  if (event.type === "response.output_text.delta") seen.responses += event.delta
  seen.last = event.type
}

seen.vectors = (await client.embeddings.create({ model: "emulated", input: ["one", "two"] })).data.map((item) => item.embedding.length)
seen.sound = (await client.audio.transcriptions.create({ model: "emulated", file: await toFile(Buffer.alloc(50_000), "a.wav") })).text
seen.models = []
for await (const model of client.models.list()) seen.models.push(model.id)

try {
  await client.chat.completions.create({ ...hello, model: "none", stream: true })
} catch (error) {
  seen.error = [error.constructor.name, error.status, error.code, error.param, Boolean(error.requestID)]
}
const { response } = await client.chat.completions.create(hello).withResponse()
seen.replica = response.headers.get("x-gateway-replica")
console.log(JSON.stringify(seen))
