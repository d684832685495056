// What can be done to an upload: it is stopped, or done again.

import { ask } from "./upload_follow.js";
import { changed } from "./upload_list.js";
import { pump } from "./upload_send.js";

export async function stop(item) {
  const wasSending = item.state === "sending";
  if (item.state === "waiting" || wasSending) {
    item.state = "stopped";
    item.request?.abort();
    pump();
  } else {
    const answer = await fetch(`/v1/jobs/${item.job}/cancel`, { method: "POST" }).catch(() => null);
    if (answer?.ok) item.told = { ...item.told, cancelling: true };
  }
  changed();
  ask();
}

export async function again(item) {
  if (item.file) {
    Object.assign(item, { state: "waiting", job: null, told: null, tried: false, sent: 0 });
    pump();
    return;
  }
  const answer = await fetch(`/v1/jobs/${item.job}/retry`, { method: "POST" }).catch(() => null);
  if (answer?.ok) item.told = null;
  else if (answer) Object.assign(item.told, { can_retry: false, next_step: "Choose it again." });
  changed();
  ask();
}
