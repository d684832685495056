// Server-sent events of a fetch: what `EventSource` does, with a status, an error and an end.

/** The events of a response as they come: `{ name, data }`, data read as JSON. */
export async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let waiting = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    waiting += value;
    for (let end; (end = waiting.indexOf("\n\n")) >= 0; waiting = waiting.slice(end + 2)) {
      const lines = waiting.slice(0, end).split("\n");
      const of = (field) => lines.find((line) => line.startsWith(`${field}: `))?.slice(field.length + 2);
      yield { name: of("event"), data: JSON.parse(of("data")) };
    }
  }
}
