// Asks this server; what goes wrong is a Trouble that says what to do about it.

export class Trouble extends Error {
  constructor(message, hint = "") {
    super(message);
    this.hint = hint;
  }
}

/** The answer to a GET of `path` with `values` as its query; null and undefined are left out. */
export async function ask(path, values = {}, { signal, accept = "application/json" } = {}) {
  const url = new URL(path, location.href);
  for (const [name, value] of Object.entries(values)) {
    if (value !== null && value !== undefined) url.searchParams.set(name, value);
  }
  let answer;
  try {
    answer = await fetch(url, { headers: { accept }, signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Trouble("The server does not answer.", navigator.onLine ? "Is it running?" : "You seem to be offline.");
  }
  if (answer.ok) return answer;
  const problem = await answer.json().catch(() => ({}));
  throw new Trouble(problem.detail ?? answer.statusText, problem.hint ?? "");
}

export async function askJSON(path, values, options) {
  return (await ask(path, values, options)).json();
}
