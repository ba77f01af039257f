// How the page asks and posts, and what it says aloud.

const BASE = document.body.dataset.base;

/** Ask; returns the answer as text, so that the same again can be told from news. */
export async function ask(path, question = {}) {
  const given = Object.entries(question).filter(([, value]) => value);
  const query = given.length ? `?${new URLSearchParams(given)}` : "";
  const answer = await fetch(`${BASE}/${path}${query}`, { cache: "no-store" });
  if (!answer.ok) throw new Error(String(answer.status));
  return answer.text();
}

/** Post; returns what came back. Throws an Error whose message says in words why it could not be done. */
export async function post(path, said, method = "POST") {
  let answer;
  try {
    answer = await fetch(`${BASE}/${path}`, {
      method,
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(said),
    });
  } catch {
    throw new Error("Jumbe does not answer");
  }
  const told = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(told.problem ?? "it could not be kept now");
  return told;
}

/** Say something to whoever listens rather than looks. */
export function aloud(words) {
  document.querySelector(".aloud").textContent = words;
}

/** Set a property only where it differs: a screen reader and a selection notice every needless change. */
export function set(element, property, value) {
  if (element[property] !== value) element[property] = value;
}

export function made(name) {
  return document.getElementById(name).content.firstElementChild.cloneNode(true);
}

export function element(tag, className, text) {
  const one = document.createElement(tag);
  if (className) one.className = className;
  if (text !== undefined) one.textContent = text;
  return one;
}
