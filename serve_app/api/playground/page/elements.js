// Makes elements. The text of others never becomes markup.

export function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

export function labelled(text, input) {
  return element("label", {}, `${text} `, input);
}
