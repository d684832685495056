// What can be done to an upload: it is stopped, or done again.

import { ask } from "./ask.js";
import { attempt } from "./trouble.js";
import { ask as askHow } from "./upload_follow.js";
import { changed, isOpen } from "./upload_list.js";
import { pump } from "./upload_send.js";

/** Stop those that have not ended. */
export const stop = (items) => attempt(() => Promise.all(items.filter(isOpen).map(stopOne)));

/** Tell a job something; whether the server took it. Raises Trouble where there is none. */
async function tell(job, what) {
  try {
    return await ask(`/v1/jobs/${job}/${what}`, {}, { method: "POST" });
  } catch (error) {
    if (error.isAway) throw error;
    return null;
  }
}

async function stopOne(item) {
  const wasSending = item.state === "sending";
  if (item.state === "waiting" || wasSending) {
    item.state = "stopped";
    item.request?.abort();
    pump();
  } else if (await tell(item.job, "cancel")) item.told = { ...item.told, cancelling: true };
  changed();
  askHow();
}

export const again = (item) => attempt(() => doAgain(item));

async function doAgain(item) {
  if (item.file) {
    Object.assign(item, { state: "waiting", job: null, told: null, tried: false, sent: 0 });
    pump();
    return;
  }
  if (await tell(item.job, "retry")) item.told = null;
  else Object.assign(item.told, { can_retry: false, next_step: "Choose it again." });
  changed();
  askHow();
}
