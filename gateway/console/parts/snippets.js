/** The same call as curl, Python and JavaScript. The key is read from the environment: no snippet holds one. */
import { html, useState } from "../html.js";
import { t } from "../texts.js";
import { toast } from "./toast.js";

/** @typedef {{path: string, options: Record<string, any>, file?: string, url?: string}} Call one picture: a file's name or its URL */

const SAFE_NAME = /^[\w][\w.-]*$/;

/** @param {string} text a word of a POSIX shell */
const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

/** @type {Record<string, (call: Required<Call>, origin: string) => string>} */
const WRITERS = {
  curl: ({ path, options, file, url }, origin) =>
    [`curl -s ${origin}${path}`, '-H "Authorization: Bearer $CLIP_API_KEY"',
      ...(url
        ? ["-H 'Content-Type: application/json'", `-d ${quoted(JSON.stringify({ images: [{ url }], ...options }))}`]
        : [`-F file=@${file}`, `-F ${quoted(`options=${JSON.stringify(options)}`)}`])].join(" \\\n  "),
  Python: ({ path, options, file, url }, origin) =>
    `import json, os\nimport httpx\n\noptions = ${JSON.stringify(options)}\nanswer = httpx.post(\n    "${origin}${path}",\n    headers={"Authorization": f"Bearer {os.environ['CLIP_API_KEY']}"},\n` +
    (url ? `    json={"images": [{"url": ${JSON.stringify(url)}}], **options},\n` : `    files={"file": open("${file}", "rb")},\n    data={"options": json.dumps(options)},\n`) +
    `    timeout=30,\n)\nanswer.raise_for_status()\nprint(answer.json()["results"][0])`,
  JavaScript: ({ path, options, file, url }, origin) =>
    (url
      ? `const body = JSON.stringify({ images: [{ url: ${JSON.stringify(url)} }], ...${JSON.stringify(options)} });\n`
      : `import { openAsBlob } from "node:fs";\n\nconst body = new FormData();\nbody.append("file", await openAsBlob("${file}"), "${file}");\nbody.append("options", JSON.stringify(${JSON.stringify(options)}));\n`) +
    `const answer = await fetch("${origin}${path}", {\n  method: "POST",\n  headers: { Authorization: \`Bearer \${process.env.CLIP_API_KEY}\`${url ? ', "Content-Type": "application/json"' : ""} },\n  body,\n});\nconsole.log((await answer.json()).results[0]);`,
};

/** Return a call in a language of WRITERS. @param {string} language @param {Call} call @param {string} [origin] */
export function snippet(language, { path, options, file = "", url = "" }, origin = location.origin) {
  return WRITERS[language]({ path, options, url, file: SAFE_NAME.test(file) ? file : "picture.jpg" }, origin);
}

/** @param {{call: Call}} props */
export function Snippets({ call }) {
  const [language, setLanguage] = useState("curl");
  const text = snippet(language, call);
  const copy = () => navigator.clipboard.writeText(text).then(() => toast(t("app.copied")), () => toast(t("try.copy_failed"), "error"));
  return html`<div class="stack snippets">
    <div class="row spread">
      <div class="segments" role="group" aria-label=${t("try.language")}>
        ${Object.keys(WRITERS).map((name) => html`<button key=${name} type="button" aria-pressed=${name === language ? "true" : "false"} onClick=${() => setLanguage(name)}>${name}</button>`)}
      </div>
      <button type="button" class="plain" onClick=${copy}>${t("app.copy")}</button>
    </div>
    <pre tabindex="0" aria-label=${t("try.call_as", { language })}><code>${text}</code></pre>
  </div>`;
}
