// Elements, made without ever reading text as HTML.

const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

export const element = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);
export const drawn = (tag, attributes = {}, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);
export const byId = (id) => document.getElementById(id);

// A table with a header; a cell is text or an element, of a class if it is a pair with one.
export function table(caption, heads, rows) {
  const cell = (tag, content, more = {}) => {
    const [inside, kind] = Array.isArray(content) ? content : [content, null];
    return element(tag, { class: kind, ...more }, inside);
  };
  return element("table", {},
    element("caption", { class: "note" }, caption),
    element("thead", {}, element("tr", {}, ...heads.map((head) => cell("th", head, { scope: "col" })))),
    element("tbody", {}, ...rows.map((row) => element("tr", {}, ...row.map((content) => cell("td", content))))));
}

// The end of a path, which tells files of a program apart; the whole is in the element's title.
const KEPT = 4;
const shortened = (path) => { const parts = path.split("/"); return parts.length > KEPT + 1 ? `…/${parts.slice(-KEPT).join("/")}` : path; };

// A stack as a list, the innermost function first.
export function stack(frames) {
  const place = (frame) => element("span", { class: "note", title: frame.file }, frame.file ? `${shortened(frame.file)}:${frame.line}` : "");
  return element("ol", { class: "stack" }, ...frames.map((frame) => element("li", {}, frame.function, " ", place(frame))));
}

// Says something in the header, where screen readers notice it.
export function say(text, bad = false) {
  const status = byId("status");
  if (status.textContent !== text) status.textContent = text;
  status.classList.toggle("bad", bad);
}

// The answer of the port, or an error with the port's own sentence.
export async function ask(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, { credentials: "same-origin", cache: "no-store", ...options });
  } catch (error) {
    if (error.name === "AbortError" || error.name === "TimeoutError") throw error;
    throw new Error("the program does not answer");
  }
  if (!answer.ok) throw new Error((await answer.text()).trim() || `the port answered ${answer.status}`);
  return answer;
}

// Gives the browser bytes to save.
export function save(blob, name) {
  const address = URL.createObjectURL(blob);
  element("a", { href: address, download: name }).click();
  // The browser has read it by then, or has asked where to save it.
  setTimeout(() => URL.revokeObjectURL(address), 60000);
}
