/**
 * Changes as the service streams them (server-sent events).
 * The browser's EventSource reconnects by itself and says where it was (Last-Event-ID); where it gives up (an answer that is
 * not 200), a new one is made after a growing pause. After every connection the page reads anew: nothing is missed either way.
 */

import { byId } from "./dom.js";

const MAX_PAUSE_MS = 15_000;

/** @param {{ onOpen: () => void, onChange: (change: { id?: string, type?: string, version?: number }) => void }} hooks */
export function connect(hooks) {
  let pauseMs = 500;
  let seen = 0;

  function show(state, text) {
    byId("live").dataset.state = state;
    byId("live-text").textContent = text;
  }

  function start() {
    const source = new EventSource("/events");
    source.addEventListener("open", () => {
      pauseMs = 500;
      show("live", "live");
      hooks.onOpen();
    });
    source.addEventListener("message", (message) => {
      seen += 1;
      show("live", `live, ${seen} ${seen === 1 ? "change" : "changes"}`);
      let change;
      try {
        change = JSON.parse(message.data);
      } catch {
        return;
      }
      hooks.onChange(change);
    });
    source.addEventListener("error", () => {
      show("lost", "reconnecting");
      if (source.readyState !== EventSource.CLOSED) return;
      setTimeout(start, pauseMs);
      pauseMs = Math.min(pauseMs * 2, MAX_PAUSE_MS);
    });
    addEventListener("pagehide", () => source.close(), { once: true });
  }

  addEventListener("pageshow", (event) => event.persisted && start());
  start();
}
