// Asks this server; what goes wrong is a Trouble that says what to do about it.

/** `status`: of the server's answer; 0: nobody answered. */
export class Trouble extends Error {
  constructor(message, hint = "", { title = "", status = 0 } = {}) {
    super(message);
    Object.assign(this, { hint, title, status });
  }

  /** Whether there was nobody to say no: the same may well be done later. */
  get isAway() {
    return [0, 502, 503, 504].includes(this.status);
  }
}

/** Nobody answered. */
export function away() {
  const [title, hint] = navigator.onLine
    ? ["The server does not answer", "See whether `longleaf serve` runs, and try again."]
    : ["There is no connection", "Try again when there is one."];
  return new Trouble(`${title}.`, hint, { title });
}

/** The answer to `path` with `values` as its query; null and undefined are left out. `body`: a form,
    or an object to be sent as JSON. */
export async function ask(path, values = {}, { signal, accept = "application/json", method = "GET", body = null } = {}) {
  const url = new URL(path, location.href);
  for (const [name, value] of Object.entries(values)) {
    if (value !== null && value !== undefined) url.searchParams.set(name, value);
  }
  const isPlain = body?.constructor === Object;
  const headers = isPlain ? { accept, "content-type": "application/json" } : { accept };
  let answer;
  try {
    answer = await fetch(url, { headers, signal, method, body: isPlain ? JSON.stringify(body) : body });
  } catch (error) {
    throw error.name === "AbortError" ? error : away();
  }
  if (answer.ok) return answer;
  const { detail = answer.statusText, hint, title } = await answer.json().catch(() => ({}));
  throw new Trouble(detail, hint, { title, status: answer.status });
}

/** An answer may be cut off while it is read. */
async function read(answer, how) {
  try {
    return await answer[how]();
  } catch (error) {
    throw error.name === "AbortError" ? error : away();
  }
}

export const askJSON = async (...asked) => read(await ask(...asked), "json");
export const askText = async (...asked) => read(await ask(...asked), "text");

/** A page of ours as the server shows it now; refusals come in words, and not as a page. */
export async function askPage(path) {
  return new DOMParser().parseFromString(await askText(path, {}, { accept: "application/problem+json" }), "text/html");
}
