/** Which view is shown: the part of the address behind `#`. */
import { useEffect, useState } from "./html.js";

/** @typedef {{view: string, rest: string[], query: URLSearchParams}} Route */

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
  return { view: view || "try", rest, query: new URLSearchParams(query ?? "") };
}

/** Return the address of a view, for `href`. @param {string[]} parts */
export const link = (...parts) => `#/${parts.map(encodeURIComponent).join("/")}`;

/** @param {string[]} parts */
export const go = (...parts) => {
  location.hash = link(...parts);
};

/** @returns {Route} */
export function useRoute() {
  const [route, setRoute] = useState(current);
  useEffect(() => {
    const follow = () => setRoute(current());
    addEventListener("hashchange", follow);
    return () => removeEventListener("hashchange", follow);
  }, []);
  return route;
}
