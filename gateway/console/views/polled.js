/** What is asked for again and again, while the page is in sight. */
import { api } from "../api.js";
import { useCallback, useEffect, useRef, useState } from "../html.js";

/**
 * Ask for a path at once and then after each span. What was answered stays while the next answer is under way, so that
 * focus and scroll stay where they are; a failure stands beside it until an answer comes.
 * @param {string | null} path null: nothing is asked
 * @param {number} everyMs
 * @returns {{data: any, error: any, at: Date | null, again: () => void}}
 */
export function usePolled(path, everyMs) {
  const [state, setState] = useState(/** @type {{data: any, error: any, at: Date | null}} */ ({ data: null, error: null, at: null }));
  const asking = useRef(/** @type {AbortController | null} */ (null));
  const again = useCallback(async () => {
    if (!path) return;
    asking.current?.abort();
    const mine = new AbortController();
    asking.current = mine;
    try {
      const data = await api.get(path, { signal: mine.signal });
      if (!mine.signal.aborted) setState({ data, error: null, at: new Date() });
    } catch (error) {
      if (!mine.signal.aborted) setState((before) => ({ ...before, error }));
    }
  }, [path]);
  useEffect(() => {
    void again();
    const timer = setInterval(() => {
      if (!document.hidden) void again();
    }, everyMs);
    return () => {
      clearInterval(timer);
      asking.current?.abort();
    };
  }, [again, everyMs]);
  return { ...state, again };
}

/**
 * Ask page after page of a list that grows downwards.
 * @param {string} path without a cursor
 * @returns {{rows: any[], more: (() => void) | null, error: any, loading: boolean, again: () => void}}
 */
export function usePages(path) {
  const [state, setState] = useState(/** @type {{rows: any[], cursor: string | null, error: any, loading: boolean}} */ ({ rows: [], cursor: null, error: null, loading: true }));
  const asking = useRef(/** @type {AbortController | null} */ (null));
  const ask = useCallback(
    async (/** @type {string | null} */ cursor) => {
      asking.current?.abort();
      const mine = new AbortController();
      asking.current = mine;
      setState((before) => (cursor ? { ...before, loading: true } : { rows: before.rows, cursor: null, error: null, loading: true }));
      try {
        const joined = path.includes("?") ? "&" : "?";
        const answer = await api.get(cursor ? `${path}${joined}cursor=${encodeURIComponent(cursor)}` : path, { signal: mine.signal });
        if (mine.signal.aborted) return;
        setState((before) => ({
          rows: cursor ? [...before.rows, ...answer.data] : answer.data, cursor: answer.next_cursor ?? null, error: null, loading: false,
        }));
      } catch (error) {
        if (!mine.signal.aborted) setState((before) => ({ ...before, error, loading: false }));
      }
    },
    [path],
  );
  const again = useCallback(() => void ask(null), [ask]);
  useEffect(() => {
    again();
    return () => asking.current?.abort();
  }, [again]);
  const { rows, cursor, error, loading } = state;
  return { rows, error, loading, again, more: cursor && !loading ? () => void ask(cursor) : null };
}
