"""Good requests of each API, the events of their answers, and one exchange of them."""

from gateway.core.endpoints import Shape
from tests.peers import DONE, Call, Peers, token
from tests.raw import Response, connect
from tests.running import Running

FORM = "content-type: multipart/form-data; boundary=XyZ"
BODIES = {
    Shape.CHAT: b'{ "model":"emulated", "messages":[{"role":"user","content":"h\xc3\xa9 \\u00e9"}],\n "n":1%b }',
    Shape.MESSAGE: b'{"max_tokens":9,"messages":[{"role":"user","content":[{"type":"text","text":"x"}]}]%b}',
    Shape.RESPONSE: b'{"input":"hello"%b}',
    Shape.COMPLETION: b'{"prompt":[1, 2,3]%b}',
    Shape.EMBEDDING: b'{"input":["h\xc3\xa9", "x"]%b}',
    Shape.SCORE: b'{"query":"x", "documents":["a","b"]%b}',
    Shape.PLAIN: b'{"anything":[1.50, -0, 1e5]%b}',
}
EVENTS = {
    Shape.MESSAGE: (b'event: content_block_delta\ndata: {"type":"content_block_delta","delta":{"type":"text_delta",'
                    b'"text":"x"}}\n\n', b'event: message_stop\ndata: {"type":"message_stop"}\n\n'),
    Shape.RESPONSE: (b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","delta":"x"}\n\n',
                     b'event: response.completed\ndata: {"type":"response.completed","response":{}}\n\n'),
}  # fmt: skip
CHUNKS = (token("a"), b": a comment\n\n", token("b", "stop"), DONE)
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":2,"total_tokens":9}}\n\n'


def form(stream: bool = False) -> bytes:
    fields = b'--XyZ\r\nContent-Disposition: form-data; name="stream"\r\n\r\n%b\r\n' % str(stream).lower().encode()
    return (
        b'--XyZ\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n\0\xff\r\n\r\n\r\n--XyZ\r\n'
        b'Content-Disposition: form-data; name="model"\r\n\r\nemulated\r\n' + fields + b"--XyZ--\r\n"
    )


async def exchange(harness: Running, peers: Peers, raw: bytes, answer: bytes) -> tuple[Call, Response]:
    """One request and its answer, seen from both ends."""
    async with connect(harness.port) as client:
        client.send(raw)
        call = await peers.call()
        call.send(answer)
        return call, await client.response()
