// Shows an error of the server beside the field that it names.

const marked = [];

/** Marks the input of `error.field` and says there what is wrong. False if the page has no such input. */
export function markField(error) {
  const [name, index, part] = (error.field ?? "").split(".");
  let target = document.querySelector(`[data-field="${CSS.escape(error.field ?? "")}"]`);
  let said = error.message.replace(`${error.field}: `, "");
  if (name === "scene") {
    target = document.getElementById("text");
    if (index !== undefined) said = `Turn ${Number(index) + 1}${part === "speaker" ? ", speaker" : ""}: ${said}`;
  } else if (name === "context" && index !== undefined) {
    target = document.querySelector(`#clips > li:nth-child(${Number(index) + 1}) [data-part="${part ?? "text"}"]`);
  }
  if (!target) return false;
  mark(target, said);
  return true;
}

function mark(target, said) {
  const message = document.createElement("p");
  message.className = "error";
  message.id = `error-${marked.length}`;
  message.setAttribute("role", "alert");
  message.textContent = said;
  const described = target.getAttribute("aria-describedby") ?? "";
  if (target.matches("input, textarea, select")) target.setAttribute("aria-invalid", "true");
  target.setAttribute("aria-describedby", `${described} ${message.id}`.trim());
  target.closest("details")?.setAttribute("open", "");
  (target.closest("label, .editor") ?? target.lastElementChild ?? target).after(message);
  marked.push({ target, message, described });
  if (target.matches("input, textarea, select")) target.focus();
}

export function unmarkFields() {
  for (const { target, message, described } of marked.splice(0)) {
    message.remove();
    target.removeAttribute("aria-invalid");
    if (described) target.setAttribute("aria-describedby", described);
    else target.removeAttribute("aria-describedby");
  }
}
