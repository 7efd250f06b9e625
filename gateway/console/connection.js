/** Looks after a lost connection: asks for /livez, ever more rarely, until it is answered. */
import { events, isReachable, send } from "./api.js";

const FIRST_MS = 1000;
const LONGEST_MS = 30_000;

/** Begin to watch; returns what ends it. */
export function watchConnection() {
  let timer = 0;
  let pause = FIRST_MS;
  const probe = async () => {
    clearTimeout(timer);
    if (isReachable()) return;
    try {
      await send("GET", "/livez", { timeoutMs: 5000 });
    } catch {
      pause = Math.min(2 * pause, LONGEST_MS);
      timer = setTimeout(probe, pause);
    }
  };
  const begin = () => {
    pause = FIRST_MS;
    timer = setTimeout(probe, pause);
  };
  events.addEventListener("lost", begin);
  addEventListener("online", probe);
  return () => {
    clearTimeout(timer);
    events.removeEventListener("lost", begin);
    removeEventListener("online", probe);
  };
}
