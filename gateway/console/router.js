/** Which view is shown: the part of the address behind `#`. */
import { useEffect, useState } from "./html.js";

/** @typedef {{view: string, rest: string[], query: URLSearchParams}} Route view is empty where the address names none */

/** @returns {Route} */
export function current() {
  const [path, query] = location.hash.replace(/^#\/?/, "").split("?");
  const [view = "", ...rest] = path.split("/").map((part) => {
    try {
      return decodeURIComponent(part);
    } catch {
      return part;
    }
  });
  return { view, rest, query: new URLSearchParams(query ?? "") };
}

/** Return the address of a view, for `href`. @param {string[]} parts */
export const link = (...parts) => `#/${parts.map(encodeURIComponent).join("/")}`;

/** @param {string[]} parts */
export const go = (...parts) => {
  location.hash = link(...parts);
};

/** @type {((event: HashChangeEvent) => boolean) | null} */
let guard = null;

/** Ask before an address is followed; null: do not. @param {typeof guard} asks true: it is held back */
export const setGuard = (asks) => {
  guard = asks;
};

/** @returns {Route} */
export function useRoute() {
  const [route, setRoute] = useState(current);
  useEffect(() => {
    const follow = (/** @type {HashChangeEvent} */ event) => {
      if (!guard?.(event)) setRoute(current());
    };
    addEventListener("hashchange", follow);
    return () => removeEventListener("hashchange", follow);
  }, []);
  return route;
}
