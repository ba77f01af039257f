// The switches of the simulated network, and the bar that says what goes wrong.

import { aloud, post, set } from "./talk.js";

const panel = document.querySelector("#network");
const form = panel.querySelector("form");
const opener = document.querySelector("#switch");
const bar = document.querySelector(".faulty");
let told = "";

export function toggle(open = panel.hidden) {
  panel.hidden = !open;
  opener.setAttribute("aria-expanded", String(open));
  if (open) form.querySelector("select").focus();
}

/** Show what is so; a switch that is being handled keeps what the hand set. */
export function draw(network) {
  const raw = JSON.stringify(network);
  if (raw === told) return;
  told = raw;
  bar.hidden = network.normal;
  opener.classList.toggle("is-on", !network.normal);
  set(bar.querySelector(".words"), "textContent", network.words.join(" · "));
  for (const [name, value] of Object.entries(network.faults)) {
    const field = form.elements[name];
    if (!field || (field === document.activeElement && field.type !== "checkbox")) continue;
    if (field.type === "checkbox") field.checked = value;
    else {
      if (field.tagName === "SELECT" && ![...field.options].some((one) => one.value === String(value))) {
        field.add(new Option(`${value} %`, String(value)));
      }
      field.value = String(value);
    }
  }
  delayInWords();
}

function delayInWords() {
  const seconds = Number(form.elements.delay_s.value);
  form.querySelector("output").textContent = seconds ? `${seconds} s` : "none";
}

function asked() {
  const faults = {};
  for (const field of form.elements) {
    if (!field.name) continue;
    if (field.type === "checkbox") faults[field.name] = field.checked;
    else faults[field.name] = field.name === "gateway" ? field.value : Number(field.value);
  }
  return faults;
}

async function change(faults) {
  try {
    const { network } = await post("faults", faults);
    draw(network);
    aloud(network.normal ? "The network is normal." : `The network misbehaves: ${network.words.join(", ")}.`);
  } catch (fault) {
    aloud(`Not changed: ${fault.message}.`);
  }
}

form.addEventListener("submit", (event) => event.preventDefault());
form.elements.delay_s.addEventListener("input", delayInWords);
form.addEventListener("change", () => change(asked()));
opener.addEventListener("click", () => toggle());
bar.querySelector(".normal").addEventListener("click", async () => {
  document.activeElement.blur(); // so that every switch goes back, the one last touched too
  await change({ seed: Number(form.elements.seed.value) || 0 });
  opener.focus();
});
