// Programs that do what the page has done. Clips stand in files beside them, and keys in the variable CSM_KEY.

import { fal, openAi } from "./clients.js";
import { addressOf, hasKey } from "./server.js";

const PLACE = "\u0000"; // marks where a file's content goes: no text has it

/** The program in `language` that sends `request`. `names` are the files of its context. */
export function codeOf(language, request, names) {
  const body = structuredClone(request);
  body.context?.forEach((clip, index) => (clip.audio = PLACE + index));
  return { curl, Python: python, JavaScript: javaScript, OpenAI: withOpenAi, fal: withFal }[language](body, names);
}

function withOpenAi(body, names) {
  return openAi(body, names, (value, indent) => filled(pythonOf(value, indent), "\\", (n) => `audio(${JSON.stringify(names[n])})`));
}

function withFal(body, names) {
  const file = (n) => `fal_client.encode_file(${JSON.stringify(names[n])})`;
  return fal(body, names, (value, indent) => filled(pythonOf(value, indent), "\\", file));
}

function curl(body, names) {
  const key = hasKey() ? ' \\\n  -H "Authorization: Bearer $CSM_KEY"' : "";
  const start = `curl -sS --fail-with-body ${quoted(addressOf("generate"))}${key} \\\n  --data-binary @- -o speech.wav`;
  const json = JSON.stringify(body);
  if (!names.length) return `${start} <<'END'\n${json}\nEND\n`;
  // The shell fills the files in, so what it would read in the texts is escaped.
  const escaped = json.replace(/[\\$`]/g, "\\$&");
  return `${start} <<END\n${filled(escaped, "\\\\", (n) => `"$(base64 < ${quoted(names[n])} | tr -d '\\n')"`)}\nEND\n`;
}

function python(body, names) {
  const read = "def audio(path: str) -> str:\n    return base64.b64encode(open(path, \"rb\").read()).decode()\n\n\n";
  const key = hasKey() ? ', "Authorization": f"Bearer {os.environ[\'CSM_KEY\']}"' : "";
  const modules = [...(names.length ? ["base64"] : []), "json", ...(hasKey() ? ["os"] : []), "urllib.request"];
  return `${modules.map((name) => `import ${name}\n`).join("")}${names.length ? `\n\n${read}` : "\n"}\
body = ${filled(pythonOf(body), "\\", (n) => `audio(${JSON.stringify(names[n])})`)}
request = urllib.request.Request(
    ${JSON.stringify(addressOf("generate"))},
    json.dumps(body).encode(),
    {"Content-Type": "application/json"${key}},
)
with urllib.request.urlopen(request) as answer, open("speech.wav", "wb") as file:
    file.write(answer.read())
`;
}

function javaScript(body, names) {
  const key = hasKey() ? ", Authorization: `Bearer ${process.env.CSM_KEY}`" : "";
  const json = filled(JSON.stringify(body, null, 2), "\\", (n) => `await audio(${JSON.stringify(names[n])})`);
  const audio = 'const audio = async (path) => (await readFile(path)).toString("base64");\n';
  return `// For Node.js, as a module (.mjs)
import { ${names.length ? "readFile, " : ""}writeFile } from "node:fs/promises";

${names.length ? audio : ""}const body = ${json};
const answer = await fetch(${JSON.stringify(addressOf("generate"))}, {
  method: "POST",
  headers: { "Content-Type": "application/json"${key} },
  body: JSON.stringify(body),
});
if (!answer.ok) throw new Error(await answer.text());
await writeFile("speech.wav", Buffer.from(await answer.arrayBuffer()));
`;
}

/** `code` with `content(n)` for the n-th marked string. `backslash` is how the code writes JSON's. */
function filled(code, backslash, content) {
  const parts = code.split(`"${backslash}u0000`);
  return parts.map((part, index) => (index ? part.replace(/^(\d+)"/, (_, n) => content(Number(n))) : part)).join("");
}

/** A Python literal. JSON's strings are Python's too. */
function pythonOf(value, indent = "") {
  const inner = `${indent}    `;
  if (Array.isArray(value)) return `[\n${value.map((item) => `${inner}${pythonOf(item, inner)},\n`).join("")}${indent}]`;
  if (typeof value === "object" && value !== null) {
    const items = Object.entries(value).map(([name, item]) => `${inner}${JSON.stringify(name)}: ${pythonOf(item, inner)},\n`);
    return `{\n${items.join("")}${indent}}`;
  }
  return { true: "True", false: "False", null: "None" }[JSON.stringify(value)] ?? JSON.stringify(value);
}

function quoted(word) {
  return `'${word.replaceAll("'", "'\\''")}'`;
}
