// The switches of the simulated network, and the bar that says what goes wrong.

import { aloud, post, set } from "./talk.js";

const panel = document.querySelector("#network");
const form = panel.querySelector("form");
const opener = document.querySelector("#switch");
const bar = document.querySelector(".faulty");
const wrong = panel.querySelector(".wrong");
let told = "";
let known = null; // the network as the server told it last

export function toggle(open = panel.hidden) {
  panel.hidden = !open;
  opener.setAttribute("aria-expanded", String(open));
  if (open) form.querySelector("select").focus();
}

/** Show what is so; a switch that is being handled keeps what the hand set, unless it was `refused`. */
export function draw(network, refused = false) {
  const raw = JSON.stringify(network);
  if (raw === told && !refused) return;
  told = raw;
  known = network;
  bar.hidden = network.normal;
  opener.classList.toggle("is-on", !network.normal);
  set(bar.querySelector(".words"), "textContent", network.words.join(" · "));
  for (const [name, value] of Object.entries(network.faults)) {
    const field = form.elements[name];
    if (!field || (!refused && field === document.activeElement && field.type !== "checkbox")) continue;
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

function valueOf(field) {
  if (field.type === "checkbox") return field.checked;
  return field.name === "gateway" ? field.value : Number(field.value);
}

async function change(faults, method) {
  try {
    const { network } = await post("faults", faults, method);
    draw(network);
    wrong.hidden = true;
    aloud(network.normal ? "The network is normal." : `The network misbehaves: ${network.words.join(", ")}.`);
  } catch (fault) {
    wrong.textContent = `Not changed: ${fault.message}.`;
    wrong.hidden = false;
    if (known) draw(known, true);
  }
}

form.addEventListener("submit", (event) => event.preventDefault());
form.elements.delay_s.addEventListener("input", delayInWords);
// Only the switch that was turned: another page may have turned the others since this one was drawn.
form.addEventListener("change", ({ target }) => {
  if (target.reportValidity()) change({ [target.name]: valueOf(target) }, "PATCH");
});
opener.addEventListener("click", () => toggle());
bar.querySelector(".normal").addEventListener("click", async () => {
  document.activeElement.blur(); // so that every switch goes back, the one last touched too
  await change({ seed: known?.faults.seed ?? 1 }, "POST");
  opener.focus();
});
