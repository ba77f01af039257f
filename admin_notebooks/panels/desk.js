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

// A question to the kernel, and its answer or the sentence why not; `busy` says whether any waits for its answer.
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
  const ask_ = (verb, args, data, patience = 60000) =>
    new Promise((done, fail) => {
      const id = next++;
      const timer = setTimeout(() => { waiting.delete(id); onDead(true); const silence = new Error("There was no answer. Reload the page: it says whether it was done."); silence.silent = true; fail(silence); }, patience);
      waiting.set(id, { done, fail, timer });
      model.send({ id, verb, args: args || {} }, undefined, data ? [data] : []);
    });
  return { ask_, busy: () => waiting.size > 0 };
}

// A panel that says when nobody answers it any more: a red bar tells how to go on.  The kernel's end is told by the server;
// whether the line still holds is asked now and then, but not amid a long work: who works answers late and is not gone.
const GONE = new Set(["restarting", "autorestarting", "dead"]);
function living(model, root) {
  const dead = h("div", { class: "gone", hidden: true, role: "alert" }, "This page has lost its connection. What you see may be old.", h("button", { onclick: () => location.reload() }, "Reload"));
  root.append(dead);
  const lost = (is) => { dead.hidden = !is; };
  const { ask_, busy } = asker(model, lost);
  const kernel = model.widget_manager?.kernel;
  const told = (_kernel, status) => { if (GONE.has(status)) lost(true); };
  kernel?.statusChanged.connect(told);
  const pulse = setInterval(() => {
    if (document.hidden) return;
    if (!busy()) ask_("ping", {}, null, 10000).catch(() => {});
    else if (kernel && kernel.connectionStatus !== "connected") lost(true);
  }, 15000);
  return { ask_, end: () => { clearInterval(pulse); kernel?.statusChanged.disconnect(told); } };
}
// A click is done once.  Its mark is kept in this tab until the answer, so that a page that lost its kernel amid it can say,
// when it is opened again, whether it was done.
const UNANSWERED = "jumbe.unanswered";
async function confirm_(ask_, proposal, more = {}) {
  const keep = (value) => { try { value ? sessionStorage.setItem(UNANSWERED, JSON.stringify(value)) : sessionStorage.removeItem(UNANSWERED); } catch { /* a browser that keeps nothing */ } };
  keep({ mark: proposal.mark, says: proposal.says });
  try {
    const done = await ask_("confirm", { mark: proposal.mark, ...more }, null, 300000);
    keep(null);
    return done;
  } catch (problem) { if (!problem.silent) keep(null); throw problem; }
}
async function unanswered(ask_) {
  let asked = null;
  try { asked = JSON.parse(sessionStorage.getItem(UNANSWERED)); } catch { /* as above */ }
  if (!asked) return null;
  const done = await ask_("outcome", { mark: asked.mark });
  sessionStorage.removeItem(UNANSWERED);
  return { says: asked.says, done };
}
const notDone = (asked) => says("warn", `The page lost its connection before “${asked.says}” was done: nothing of it is there. Do it again.`);
// What others did while somebody looked at a proposal, which is therefore shown once more.
const meanwhile = (proposal) => (proposal.meanwhile.length ? says("warn", "Somebody changed it while you looked, so nothing was done: look again.", h("ul", {}, proposal.meanwhile.map((words) => h("li", {}, words)))) : "");

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
