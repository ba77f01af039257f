const FIELDS = [["name", "Name"], ["external_id", "External id"], ["contact_phone_number", "Phone, country code first"], ["contact_phone_number_is_verified", "Verified: 1 or 0"], ["language_code", "Language, such as sw"], ["time_zone", "Time zone, such as Africa/Nairobi"], ["contact_backend_id", "Gateway"], ["commcare_email_address", "E-mail"], ["status", "Status: open or closed"]];

function render({ model, el }) {
  const root = h("div", { class: "jd" });
  const dead = h("div", { class: "gone", hidden: true, role: "alert" }, "This page has lost its connection. What you see may be old.", h("button", { onclick: () => location.reload() }, "Reload"));
  const ask_ = asker(model, (is) => { dead.hidden = !is; });
  const state = { tab: "find", words: "", first: 0, rights: [], open: new URLSearchParams(location.search).get("case") };
  const tabs = h("div", { class: "tabs", role: "tablist" }), result = h("div"), body = h("div");
  root.append(dead, tabs, result, body);
  el.append(root);

  async function tell(act) {
    try { await act(); } catch (problem) { result.replaceChildren(says("bad", problem.message)); }
  }
  const told = (done, more) => result.replaceChildren(says("good", done.says, more));

  function draw() {
    const tab = (key, label) => h("button", { role: "tab", "aria-selected": String(state.tab === key), onclick: () => { state.tab = key; go(null); } }, label);
    tabs.replaceChildren(tab("find", "Find a case"), state.rights.includes("lead") ? tab("upload", "Upload a sheet of cases") : "");
    return tell(state.open ? drawCase : state.tab === "upload" ? drawUpload : drawFind);
  }

  // The address says which case is open, so that it can be sent to somebody and the way back works.
  function go(id) {
    state.open = id;
    result.replaceChildren();
    const where = new URL(location.href);
    id ? where.searchParams.set("case", id) : where.searchParams.delete("case");
    if (String(where) !== location.href) history.pushState(null, "", where);
    return draw();
  }
  const back = () => { state.open = new URLSearchParams(location.search).get("case"); draw(); };
  window.addEventListener("popstate", back);

  async function drawFind() {
    const search = h("input", { type: "search", placeholder: "Name, phone number, external id or case id", "aria-label": "Find a case", value: state.words });
    let timer;
    search.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(() => { state.words = search.value; state.first = 0; tell(list); }, 150); });
    const table = h("div");
    async function list() {
      const { count: n, rows } = await ask_("find", { search: state.words, first: state.first });
      const last = Math.min(state.first + 100, n);
      table.replaceChildren(n ? h("table", {}, h("thead", {}, h("tr", {}, ["Name", "Phone", "External id", "Two-way", "Language", "Status"].map((t) => h("th", {}, t)))),
        h("tbody", {}, rows.map((r) => h("tr", {}, h("td", {}, h("button", { class: "link", onclick: () => go(r.case_id) }, r.name || r.case_id)), h("td", {}, r.contact_phone_number || h("span", { class: "chip bad" }, "none")), h("td", {}, r.external_id || ""),
          h("td", {}, h("span", { class: `chip ${r.two_way ? "good" : ""}` }, r.two_way ? "yes" : "no")), h("td", {}, r.language_code || ""), h("td", {}, r.status === "closed" ? h("span", { class: "chip bad" }, "closed") : r.consent === "stop" ? h("span", { class: "chip warn" }, "said STOP") : "open")))))
        : h("p", { class: "empty" }, state.words ? "Nobody fits." : "No cases yet."),
        n > 100 ? h("div", { class: "row soft" }, `${(state.first + 1).toLocaleString("en")} to ${last.toLocaleString("en")} of ${n.toLocaleString("en")}`, h("button", { disabled: state.first === 0, onclick: () => { state.first -= 100; tell(list); } }, "Before"), h("button", { disabled: last >= n, onclick: () => { state.first += 100; tell(list); } }, "Next")) : "");
    }
    body.replaceChildren(search, table);
    await list();
    search.focus();
  }

  async function drawCase() {
    body.replaceChildren();
    const c = await ask_("case", { case_id: state.open });
    body.replaceChildren(h("div", { class: "row top" }, h("h2", {}, c.name || c.case_id), h("span", { class: "gap" }), state.rights.includes("lead") && h("button", { onclick: () => edit(c) }, "Edit"), h("button", { onclick: () => go(null) }, "All cases")), h("div", {}, caseCard(c)));
  }

  function edit(c) {
    const before = Object.fromEntries(FIELDS.map(([name]) => [name, c[name] === true ? "1" : c[name] === false ? "0" : c[name] ?? ""]));
    const inputs = FIELDS.map(([name, label]) => h("label", {}, h("span", {}, label), h("input", { type: "text", name, value: before[name] })));
    const dialog = ask(root, `Edit ${c.name || c.case_id}`, inputs, "Look at the changes", async (values) => {
      const set = Object.fromEntries(Object.entries(values).filter(([name, value]) => value.trim() !== before[name]));
      const proposal = await ask_("edit", { case_id: c.case_id, values: set });
      const [row] = proposal.rows;
      if (!proposal.acts) throw new Error(row.reason || "Nothing is different.");
      const place = h("div");
      body.prepend(place);
      planBox({ ask: ask_, tell, place, proposal, change: true, done: async (done) => { await drawCase(); told(done); } });
    });
    dialog.classList.add("wide");
  }

  async function drawUpload() {
    const place = h("div");
    const zone = dropZone("Split it, or ask the operator to load it with 'jumbe cases import'.", async (name, bytes) => {
      const proposal = await ask_("upload", { name }, bytes, PATIENT);
      planBox({ ask: ask_, tell, place, proposal, change: true, done: async (done, sheet) => told(done, sheet) });
    }, place);
    body.replaceChildren(...zone, h("p", { class: "soft" }, "A CommCare case export as it comes, or your own sheet: one row a case, matched by ", h("b", {}, "case_id"), " or ", h("b", {}, "external_id"), " and never by phone. A blank cell leaves a value as it is; ", h("b", {}, "--"), " clears it."), place);
  }

  const pulse = setInterval(() => { if (!document.hidden) ask_("ping", {}, null, 10000).catch(() => {}); }, 15000);
  tell(async () => { state.rights = (await ask_("who")).rights; await draw(); });
  return () => { clearInterval(pulse); window.removeEventListener("popstate", back); };
}

export default { render };
