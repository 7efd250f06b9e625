/** What Try asks of the gateway: one request a picture, so that each fails alone. */
import { api } from "../../api.js";

/**
 * @typedef {object} Picture
 * @property {number} id
 * @property {string} name as it was given; a name may hold anything
 * @property {Blob | null} file
 * @property {string | null} url
 * @property {"waiting" | "done" | "failed"} state
 * @property {any} [answer]
 * @property {any} [error]
 *
 * @typedef {object} Question
 * @property {"policy" | "classifier" | "labels"} by
 * @property {string} policy
 * @property {string} shadow empty: none
 * @property {string} classifier
 * @property {string} labels one a line
 * @property {"softmax" | "independent"} mode
 * @property {"center" | "full" | "tiles"} views
 * @property {boolean} heatmap
 */

const SIDE_BY_SIDE = 3; // requests at a time

/** @param {string} text @returns {string[]} */
export const labelsOf = (text) => [...new Set(text.split("\n").map((line) => line.trim()).filter(Boolean))];

/** Return where a question goes and what it says. @param {Question} question */
export function request(question) {
  const include = ["views", ...(question.heatmap ? ["heatmap"] : [])];
  if (question.by === "policy")
    return { path: "/v1/moderate", options: { policy: question.policy, ...(question.shadow ? { shadow: question.shadow } : {}), include } };
  const what = question.by === "classifier" ? { classifier: question.classifier } : { labels: labelsOf(question.labels), mode: question.mode };
  return { path: "/v1/classify", options: { ...what, views: question.views, include } };
}

/** Whether a question is complete. @param {Question} question */
export function complete(question) {
  if (question.by === "policy") return question.policy !== "";
  if (question.by === "classifier") return question.classifier !== "";
  return labelsOf(question.labels).length >= (question.mode === "softmax" ? 2 : 1);
}

/** @param {Picture} picture @param {Question} question @param {AbortSignal} signal @returns {Promise<any>} the result */
async function askOne(picture, question, signal) {
  const { path, options } = request(question);
  if (picture.url !== null) return (await api.post(path, { images: [{ url: picture.url }], ...options }, { signal })).results[0];
  const form = new FormData();
  form.append("file", /** @type {Blob} */ (picture.file), "picture");
  form.append("options", JSON.stringify(options));
  return (await api.form(path, form, { signal })).results[0];
}

/**
 * Ask about pictures, a few at a time.
 * @param {Picture[]} pictures @param {Question} question @param {AbortSignal} signal
 * @param {(id: number, outcome: Partial<Picture>) => void} tell
 */
export async function ask(pictures, question, signal, tell) {
  const left = [...pictures];
  const work = async () => {
    for (let picture = left.shift(); picture && !signal.aborted; picture = left.shift()) {
      try {
        const answer = await askOne(picture, question, signal);
        if (!signal.aborted) tell(picture.id, answer.error ? { state: "failed", error: answer.error, answer } : { state: "done", answer });
      } catch (error) {
        if (!signal.aborted) tell(picture.id, { state: "failed", error });
      }
    }
  };
  await Promise.all(Array.from({ length: SIDE_BY_SIDE }, work));
}
