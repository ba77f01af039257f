function render({ model, el }) {
  const root = h("div", { class: "jd" });
  const { ask_, end } = living(model, root);
  const state = { rows: [], count: 0, first: 0, number: Number(new URLSearchParams(location.search).get("number")) || null, part: "", reason: "", search: "", at: 0, rights: [], alive: true };
  const list = h("nav", { "aria-label": "Broadcasts" }), right = h("main"), result = h("div"), picture = h("div"), table = h("div"), head = h("div");
  root.append(h("div", { class: "two wide" }, list, right));
  el.append(root);
  const tell = async (act) => { try { await act(); } catch (problem) { result.replaceChildren(says("bad", problem.message)); } };

  async function drawList() {
    const told = await ask_("list", { first: state.first });
    Object.assign(state, told);
    if (!state.number && state.rows.length) state.number = state.rows[0].number;
    put(list, h("div", { class: "cards" }, state.rows.map((b) => h("button", { class: "sent", "aria-current": String(b.number === state.number), onclick: () => open(b.number) },
      h("span", { class: "no" }, b.number), h("b", {}, b.whom), h("span", { class: "n" }, b.recipients.toLocaleString("en")), h("small", {}, b.text), h("small", {}, `${b.state}, ${ago(b.asked_at)}`), gauge(b)))),
    state.count > 50 ? h("div", { class: "row" }, h("button", { disabled: state.first === 0, onclick: () => { state.first -= 50; tell(drawList); } }, "Newer"), h("button", { disabled: state.first + 50 >= state.count, onclick: () => { state.first += 50; tell(drawList); } }, "Older")) : "");
  }

  async function open(number) {
    Object.assign(state, { number, part: "", reason: "", search: "", at: 0 });
    result.replaceChildren();
    list.querySelectorAll(".sent").forEach((card) => card.setAttribute("aria-current", String(card.querySelector(".no").textContent === String(number))));
    await tell(draw);
  }

  async function draw() {
    if (!state.number) {
      right.replaceChildren(h("div", { class: "empty" }, h("h2", {}, "Nothing was sent yet"), h("p", {}, "A broadcast stands here as soon as somebody asks for it, and what became of each text.")));
      return;
    }
    right.replaceChildren(head, result, picture, h("div", { class: "row", style: "margin: 18px 0 4px; flex-wrap: nowrap" }, search, who), table);
    await drawHead();
    await Promise.all([drawPicture(), drawTable()]);
  }

  let shown = null;
  async function drawHead() {
    const b = shown = await ask_("broadcast", { number: state.number });
    const several = Object.keys(b.texts).length > 1;
    const pick = (part, reason = "") => { state.part = state.part === part && state.reason === reason ? "" : part; state.reason = state.part ? reason : ""; state.at = 0; tell(async () => { await drawHead(); await drawTable(); }); };
    const whys = b.reasons.filter((r) => !state.part || r.part === state.part);
    put(head,
      h("div", { class: "row top" }, h("h2", {}, `${b.number} to ${b.whom}`), h("span", { class: "gap" }), h("button", { onclick: () => tell(async () => save(await ask_("export", { number: b.number, part: state.part }, null, 300000), `broadcast-${b.number}.xlsx`)) }, "Download")),
      h("p", { class: "soft" }, `${begun(b.state)}. Asked for by ${b.asked_by} (${b.door}), `, when(b.asked_at), "."),
      Object.entries(b.texts).map(([language, text]) => h("div", { class: "bubble" }, several ? h("small", {}, spoken(language)) : null, text)),
      h("h3", {}, count(b.recipients, "recipient")), gauge(b, "tall"),
      h("div", { class: "parts" }, PARTS.filter(([part]) => b.parts[part]).map(([part, words]) => h("button", { class: part, "aria-pressed": String(state.part === part && !state.reason), onclick: () => pick(part) }, h("span", { class: "dot" }), h("b", {}, b.parts[part].toLocaleString("en")), ` ${words}`)),
        b.arrived ? h("button", { "aria-pressed": String(state.part === "no_reply"), onclick: () => pick("no_reply") }, h("b", {}, (b.arrived - b.replied).toLocaleString("en")), " got it and have not answered") : null),
      b.adds_up ? null : says("bad", "These parts do not add up to the recipients: tell the operator."),
      whys.length ? h("table", {}, h("tbody", {}, whys.map((r) => h("tr", {}, h("td", { class: "n", style: "width: 64px" }, r.count.toLocaleString("en")), h("td", { style: "max-width: none" }, h("button", { class: "link", onclick: () => pick(r.part, r.key) }, r.why), state.reason === r.key ? h("span", { class: "chip" }, "shown below") : null))))) : null,
      (state.part || state.reason) && state.rights.includes("change") ? h("div", { class: "row" }, h("button", { onclick: gather }, "Make a group of these")) : null);
    clearTimeout(later);
    if (b.is_open) later = setTimeout(goOn, 3000);
  }
  // What runs is looked at again every three seconds, and where nobody looks, when somebody does.
  let later;
  function goOn() {
    if (!state.alive || !shown.is_open) return;
    if (document.hidden) { later = setTimeout(goOn, 3000); return; }
    tell(async () => { await drawHead(); await drawPicture(); });
  }

  async function drawPicture() {
    const drawn = await ask_("picture", { number: state.number, width: right.clientWidth });
    const address = URL.createObjectURL(new Blob([drawn], { type: "image/svg+xml" }));
    const image = h("img", { class: "picture", src: address, alt: `Sent and delivered over time: ${shown.parts.delivered} of ${shown.recipients} delivered`, onload: () => URL.revokeObjectURL(address) });
    picture.replaceChildren(shown.arrived ? image : "");
  }

  // -- who
  let timer;
  const search = h("input", { type: "search", placeholder: "Search name, id or number", "aria-label": "Search recipients", oninput: () => { clearTimeout(timer); timer = setTimeout(() => { state.search = search.value; state.at = 0; tell(drawTable); }, 150); } });
  const who = h("button", { style: "white-space: nowrap", onclick: () => ask(root, "Why did she not get it?", h("label", {}, h("span", {}, "Phone number, external id or case id"), h("input", { type: "text", name: "typed", required: true, autocomplete: "off" })), "Look", ({ typed }) => why(typed)) }, "Why did she not get it?");
  async function drawTable() {
    search.value = state.search;
    const { count: n, rows } = await ask_("recipients", { number: state.number, part: state.part, reason: state.reason, search: state.search, first: state.at });
    const last = Math.min(state.at + 100, n), several = Object.keys(shown.texts).length > 1;
    table.replaceChildren(h("div", { class: "scroll" }, n ? h("table", {}, h("thead", {}, h("tr", {}, [["Name"], ["Phone", "wider"], ["External id", "more"], several && ["Language", "more"], ["Where it is"], ["Why"], ["When", "more"]].filter(Boolean).map(([t, kind]) => h("th", { class: kind }, t)))),
      h("tbody", {}, rows.map((r) => h("tr", {}, h("td", {}, h("button", { class: "link", onclick: () => tell(() => why(r.case_id)) }, r.name || r.external_id || r.case_id)), h("td", { class: "wider" }, r.phone || ""), h("td", { class: "more" }, r.external_id || ""), several && h("td", { class: "more" }, r.language || ""),
        h("td", {}, h("span", { class: `chip ${r.state === "delivered" ? "good" : ["undelivered", "refused", "expired"].includes(r.state) ? "bad" : ["unknown", "unresolved", "withheld"].includes(r.state) ? "warn" : ""}` }, r.part)), h("td", { class: "why" }, r.why), h("td", { class: "more" }, when(r.settled_at || r.handed_over_at)))))) : h("p", { class: "empty" }, "Nobody.")),
    n > 100 ? h("div", { class: "row soft" }, `${(state.at + 1).toLocaleString("en")} to ${last.toLocaleString("en")} of ${n.toLocaleString("en")}`, h("button", { disabled: state.at === 0, onclick: () => { state.at -= 100; tell(drawTable); } }, "Before"), h("button", { disabled: last >= n, onclick: () => { state.at += 100; tell(drawTable); } }, "Next")) : "");
  }

  async function why(typed) {
    const told = await ask_("why", { number: state.number, typed });
    const dialog = h("dialog", { class: "wide" }, h("h2", {}, told.says), h("ol", { class: "steps" }, told.steps.map((step) => h("li", {}, h("time", {}, clock(step.at)), h("span", {}, step.what)))), h("p", { class: "soft" }, `Case ${told.case_id}. Times are by your own clock.`), h("div", { class: "row" }, h("button", { onclick: () => dialog.close() }, "Close")));
    dialog.addEventListener("close", () => dialog.remove());
    root.append(dialog);
    dialog.showModal();
  }

  function gather() {
    ask(root, "Make a group of these", [h("p", { class: "soft" }, "Those who are in this part now and whose case is open."), h("label", {}, h("span", {}, "Long name"), h("input", { type: "text", name: "name" })), h("label", {}, h("span", {}, "Short name, for texts: 2 to 12 letters or digits"), h("input", { type: "text", name: "short", required: true, maxlength: 12 }))], "Make it",
      async ({ short, name }) => { const proposal = await ask_("gather", { number: state.number, part: state.part, reason: state.reason, short, name }); const done = await confirm_(ask_, proposal); result.replaceChildren(says("good", done.says)); });
  }

  (async () => {
    try { state.rights = (await ask_("who")).rights; await drawList(); await tell(draw); }
    catch (problem) { right.replaceChildren(says("bad", problem.message)); }
  })();
  return () => { state.alive = false; end(); };
}

export default { render };
