// To add a phone: any case by name or id, or any number.

import { aloud, ask, element, post } from "./talk.js";

const sheet = document.querySelector("#finder");
const box = sheet.querySelector("input");
const list = document.querySelector("#found");
const wrong = sheet.querySelector(".wrong");
let soon = 0;
let taken = () => {};

export function open(whenTaken) {
  taken = whenTaken;
  box.value = "";
  wrong.hidden = true;
  sheet.showModal();
  box.focus();
  find();
}

async function find() {
  const question = box.value;
  let found;
  try {
    found = JSON.parse(await ask("find", { q: question })).found;
  } catch {
    return;
  }
  if (question !== box.value) return; // something else was typed since
  list.replaceChildren(...found.map(row));
  if (!found.length) {
    const none = element("li", "none", "Nobody is called so. A number is typed with its country code, such as +233 24 412 0101.");
    list.append(none);
  }
}

function row(one) {
  const item = element("li");
  const button = element("button");
  button.type = "button";
  if (one.phone) button.dataset.phone = one.phone;
  else button.disabled = true;
  const name = element("bdi", "found-name", one.name);
  button.append(name, element("bdi", "found-about", one.about));
  item.append(button);
  return item;
}

async function take(number) {
  try {
    const { phone } = await post("take-out", { phone: number });
    sheet.close();
    taken(phone);
  } catch (fault) {
    wrong.textContent = `Not added: ${fault.message}.`;
    wrong.hidden = false;
    aloud(wrong.textContent);
  }
}

sheet.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-phone]");
  if (button) take(button.dataset.phone);
  else if (event.target === sheet || event.target.closest(".close")) sheet.close();
});
sheet.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && event.target === box) {
    event.preventDefault();
    const first = list.querySelector("button[data-phone]");
    if (first) take(first.dataset.phone);
    return;
  }
  if (event.key === "Escape") {
    event.preventDefault(); // of a search box it would only empty what was typed
    sheet.close();
    return;
  }
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (!step) return;
  event.preventDefault();
  const stops = [box, ...sheet.querySelectorAll("button[data-phone]")];
  stops[Math.max(0, Math.min(stops.length - 1, stops.indexOf(document.activeElement) + step))].focus();
});
box.addEventListener("input", () => {
  clearTimeout(soon);
  soon = setTimeout(find, 120);
});
