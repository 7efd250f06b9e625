/** The one place that binds templates to the library; views import everything of it from here. */
import htm from "./vendor/htm.js";
import { h } from "./vendor/preact.js";

export { render, h, Fragment, createContext } from "./vendor/preact.js";
export {
  useCallback, useContext, useEffect, useErrorBoundary, useId, useLayoutEffect, useMemo, useReducer, useRef, useState,
} from "./vendor/hooks.js";

/** @typedef {import("./vendor/preact.js").VNode<any>} Node */
/** @typedef {import("./vendor/preact.js").ComponentChildren} Children */

/**
 * Turn a template into nodes. What is filled in becomes text or attributes, never markup.
 * @type {(strings: TemplateStringsArray, ...values: any[]) => any}
 */
export const html = htm.bind(h);
