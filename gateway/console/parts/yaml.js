/** YAML of policies and classifiers, as the library reads and writes it. */
import { dump, load } from "../vendor/yaml.js";

/** @param {any} value @returns {string} */
export const toYaml = (value) => dump(value, { lineWidth: 100, noRefs: true });

/** @param {string} text @returns {any} @throws {Error} not YAML, or not a mapping */
export function fromYaml(text) {
  const value = load(text);
  if (value === null || typeof value !== "object" || Array.isArray(value)) throw new Error("It must be a mapping.");
  return value;
}
