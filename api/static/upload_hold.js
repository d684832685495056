// Why nothing more is sent for now, and going on by itself or when somebody says so.

import { announce, changed } from "./upload_list.js";

export const hindrance = { now: null }; // {why, step, self}; self: it is tried again by itself

export const OFFLINE = { why: "The server does not answer.", step: "Nothing is lost: sending goes on by itself when it answers again. Leave this page open.", self: true };

let goesOn = () => {};

/** Call `send` when the reason is gone. */
export function onGoingOn(send) {
  goesOn = send;
}

/** Send nothing more until the reason is gone. */
export function hold(reason) {
  if (!hindrance.now) announce(reason.why);
  hindrance.now = reason;
  if (reason.self) setTimeout(lookWhetherBack, 2000);
  changed();
}

async function lookWhetherBack() {
  if (!hindrance.now?.self) return;
  if (await fetch("/healthz").then((answer) => answer.ok, () => false)) goOn();
  else setTimeout(lookWhetherBack, 3000);
}

export function goOn() {
  hindrance.now = null;
  goesOn();
}

addEventListener("online", () => hindrance.now?.self && goOn());
