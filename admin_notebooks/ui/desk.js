// What every panel shares: making elements (text is always text), asking the kernel, tables, dialogs, the bar for a dead kernel.

function h(tag, props, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props || {})) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false).map((child) => (child instanceof Node ? child : String(child))));
  return element;
}

const count = (n, thing) => `${n.toLocaleString("en")} ${thing}${n === 1 ? "" : "s"}`;


// Times by the reader's own clock, the far ones by their day.
function ago(iso) {
  if (!iso) return "";
  const then = new Date(iso), minutes = Math.round((Date.now() - then) / 60000);
  if (minutes < 1) return "just now";
  if (minutes < 60) return `${count(minutes, "minute")} ago`;
  if (minutes < 60 * 24) return `${count(Math.round(minutes / 60), "hour")} ago`;
  return then.toLocaleDateString("en-GB", { day: "numeric", month: "short", year: "numeric" });
}
const when = (iso) => h("time", { datetime: iso, title: iso ? new Date(iso).toLocaleString("en-GB") : "" }, ago(iso));

// A question to the kernel, and its answer or the sentence why not.
function asker(model, onDead) {
  const waiting = new Map();
  let next = 1;
  model.on("msg:custom", (answer, buffers) => {
    const found = waiting.get(answer.id);
    if (!found) return;
    waiting.delete(answer.id);
    clearTimeout(found.timer);
    onDead(false);
    if (answer.problem) found.fail(new Error(answer.problem));
    else found.done(buffers && buffers.length ? buffers[0] : answer.result);
  });
  return (verb, args, data, patience = 60000) =>
    new Promise((done, fail) => {
      const id = next++;
      const timer = setTimeout(() => { waiting.delete(id); onDead(true); fail(new Error("There was no answer. Reload the page, and look whether it was done before you do it again.")); }, patience);
      waiting.set(id, { done, fail, timer });
      model.send({ id, verb, args: args || {} }, undefined, data ? [data] : []);
    });
}

function save(buffer, name) {
  const bytes = buffer.buffer ? new Uint8Array(buffer.buffer, buffer.byteOffset, buffer.byteLength) : buffer;
  const address = URL.createObjectURL(new Blob([bytes]));
  const link = h("a", { href: address, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
}

function says(kind, ...words) {
  return h("div", { class: `says ${kind}`, role: kind === "bad" ? "alert" : "status" }, ...words);
}

// A dialog that asks; `act` gets the form's values and may throw, and then the sentence stands in the dialog.
function ask(root, title, body, label, act, kind = "") {
  const told = h("div");
  const go = h("button", { class: `main ${kind}`, type: "submit" }, label);
  const form = h("form", {}, h("h2", {}, title), body, told, h("div", { class: "row" }, h("button", { type: "button", onclick: () => dialog.close() }, "Cancel"), go));
  const dialog = h("dialog", {}, form);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    go.disabled = true;
    try { await act(Object.fromEntries(new FormData(form))); dialog.close(); }
    catch (problem) { told.replaceChildren(says("bad", problem.message)); }
    finally { go.disabled = false; }
  });
  dialog.addEventListener("close", () => dialog.remove());
  root.append(dialog);
  dialog.showModal();
  return dialog;
}

const VERDICTS = {
  add: ["will be added", "good"], remove: ["will be removed", "good"], already_in: ["already in", ""], not_member: ["not a member", ""],
  create: ["will be created", "good"], update: ["will be changed", "good"], unchanged: ["unchanged", ""], invalid: ["cannot be used", "bad"],
  duplicate: ["twice in the sheet", "warn"], not_found: ["not found", "bad"], ambiguous: ["several cases fit", "bad"],
  no_phone: ["no phone number", "bad"], closed: ["closed", "bad"], unreadable: ["cannot be read", "bad"],
};
const LIMIT = 8 * 2 ** 20;
const PATIENT = 300000;

// A plan: chips as filters, problems first, a button that names its effect, the checked sheet.
function planBox({ ask, tell, place, proposal, done, change }) {
  let only = "";
  const rows = h("div");
  const sheet = () => h("button", { onclick: () => tell(async () => save(await ask("result", { mark: proposal.mark }, null, PATIENT), "checked.xlsx")) }, "Download the checked sheet");
  const chip = (verdict) => { const [label, kind] = VERDICTS[verdict] || [verdict, ""]; return h("span", { class: `chip ${kind}` }, label); };
  const chips = Object.entries(proposal.counts).map(([verdict, n]) => {
    const button = h("button", { "aria-pressed": "false", onclick: () => tell(async () => {
      only = only === verdict ? "" : verdict;
      chips.forEach((c) => c.setAttribute("aria-pressed", String(c === button && !!only)));
      list(await ask("rows", { mark: proposal.mark, verdict: only }));
    }) }, chip(verdict), ` ${n.toLocaleString("en")}`);
    return button;
  });
  const heads = ["Identifier", "Verdict", ...(change ? ["What changes"] : []), "Why", ...(change ? [] : ["Suggestion"])];
  function list(shown) {
    rows.replaceChildren(h("table", {}, h("thead", {}, h("tr", {}, h("th", { class: "n" }, "Row"), heads.map((t) => h("th", {}, t)))),
      h("tbody", {}, shown.map((r) => h("tr", {}, h("td", { class: "n" }, r.row ?? ""), h("td", {}, r.identifier), h("td", {}, chip(r.verdict)), change && h("td", {}, changes(r)),
        h("td", { class: "why" }, [r.reason, ...r.warnings].filter(Boolean).join(" ")), change ? null : h("td", {}, r.suggestion || ""))))));
  }
  const go = h("button", { class: "main", disabled: !proposal.acts, onclick: () => tell(async () => {
    go.disabled = true;
    try {
      const result = await ask("confirm", { mark: proposal.mark }, null, PATIENT);
      place.replaceChildren();
      await done(result, sheet());
    } catch (problem) { go.disabled = false; throw problem; }
  }) }, proposal.says);
  place.replaceChildren(says("warn", "Nothing has been changed yet."), proposal.refusal ? says("bad", proposal.refusal) : "", h("div", { class: "row filters" }, chips),
    h("div", { class: "row", style: "margin-top: 10px" }, go, sheet(), h("button", { onclick: () => place.replaceChildren() }, "Cancel")), rows);
  list(proposal.rows);
}

// Old and new value of each cell that would change; blank means there was none, or it is cleared.
function changes(row) {
  return Object.entries(row.changes || {}).map(([name, [before, after]]) => h("div", {}, h("span", { class: "soft" }, `${name}: `),
    before === null || before === "" ? "" : [h("s", {}, shown(before)), " "], after === null || after === "" ? h("i", {}, "cleared") : h("b", {}, shown(after))));
}
const shown = (value) => (value === true ? "yes" : value === false ? "no" : String(value));

// Where a sheet is dropped or chosen; one that is too large for a page is refused here, with what to do.
function dropZone(instead, read, place) {
  const file = h("input", { type: "file", accept: ".xlsx,.csv", class: "sr", "aria-label": "Choose a sheet", onchange: () => { take(file.files[0]); file.value = ""; } });
  const drop = h("div", { class: "drop", tabindex: 0, role: "button", onclick: () => file.click(), onkeydown: (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); file.click(); } },
    ondragover: (event) => { event.preventDefault(); drop.classList.add("over"); }, ondragleave: () => drop.classList.remove("over"), ondrop: (event) => { event.preventDefault(); drop.classList.remove("over"); take(event.dataTransfer.files[0]); } },
    "Drop a sheet here, or click to choose one (.xlsx or .csv)");
  async function take(chosen) {
    if (!chosen) return;
    place.replaceChildren(h("p", { class: "soft", role: "status" }, `Reading ${chosen.name} ...`));
    try {
      if (chosen.size > LIMIT) throw new Error(`${chosen.name} has ${(chosen.size / 2 ** 20).toFixed(1)} MB, and a page takes 8 MB. ${instead}`);
      await read(chosen.name, await chosen.arrayBuffer());
    } catch (problem) { place.replaceChildren(says("bad", problem.message)); }
  }
  return [drop, file];
}

// A case whole: what it is, whose its number is, consent, texts.
function caseCard(c) {
  const pair = (name, value) => (value === null || value === undefined || value === "" ? null : [h("dt", {}, name), h("dd", {}, value)]);
  const owns = c.two_way ? "this case owns it and may reply" : c.owner ? `owned by ${c.owner}; this case gets texts` : c.contact_phone_number ? "nobody verified owns it" : "";
  return [c.warning && says("warn", c.warning),
    h("dl", {}, pair("Case id", c.case_id), pair("External id", c.external_id), pair("Phone", c.contact_phone_number), pair("Number", owns), pair("Waiting for it", c.waiting.join(", ")), pair("Status", c.status), pair("Language", c.language_code), pair("Time zone", c.time_zone), pair("Gateway", c.contact_backend_id), pair("E-mail", c.commcare_email_address), pair("Groups", c.groups.join(", ")), Object.entries(c.properties).map(([k, v]) => pair(k, v))),
    h("h3", {}, "Consent"), c.consent.length ? h("table", {}, h("tbody", {}, c.consent.map((e) => h("tr", {}, h("td", {}, when(e.at)), h("td", {}, e.kind), h("td", {}, e.words || ""))))) : h("p", { class: "soft" }, "Never said STOP."),
    h("h3", {}, "Last texts"), c.texts.length ? h("table", {}, h("tbody", {}, c.texts.map((t) => h("tr", {}, h("td", {}, when(t.created_at)), h("td", {}, t.direction === "in" ? "from them" : "to them"), h("td", { class: "why" }, t.body), h("td", {}, t.state))))) : h("p", { class: "soft" }, "No texts yet.")];
}
