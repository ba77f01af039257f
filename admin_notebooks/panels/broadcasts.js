const seen = (character) => (/\s|\p{C}/u.test(character) ? "" : `“${character}”, `);

function render({ model, el }) {
  const root = h("div", { class: "jd" });
  const { ask_, end } = living(model, root);
  const fresh = () => ({ shorts: new Set(), typed: "", texts: {}, language: "", at: "", fixes: null, looked: null });
  const state = { ...fresh(), offer: null, alive: true, number: null };
  const page = h("main", { class: "step" });
  root.append(page);
  el.append(root);
  const result = h("div");
  const tell = async (act) => { try { await act(); } catch (problem) { result.replaceChildren(says("bad", problem.message)); result.scrollIntoView({ block: "nearest" }); } };

  // -- what is open, and what was sent last
  async function drawHome() {
    state.number = null;
    const [running, recent] = await Promise.all([ask_("running"), ask_("recent")]);
    const line = (b) => h("button", { class: "sent", onclick: () => (b.for_me ? tell(() => second(b.number)) : open(b.number)) }, h("span", { class: "no" }, b.number), h("b", {}, b.whom), h("span", { class: "n" }, b.recipients.toLocaleString("en")), h("small", {}, b.text), h("small", {}, b.for_me ? h("span", { class: "chip warn" }, `${b.asked_by} asks for your ok`) : `${begun(b.state)}, ${ago(b.asked_at)}`), gauge(b));
    const open_ = new Set(running.map((b) => b.number)), over = recent.filter((b) => !open_.has(b.number) && b.state !== "not confirmed");
    put(page, h("div", { class: "row" }, h("button", { class: "main", onclick: () => { Object.assign(state, fresh()); write(); } }, "Write a broadcast")), result,
      running.length ? [h("h3", {}, "Now"), h("div", {}, running.map(line))] : null, over.length ? [h("h3", {}, "Last"), h("div", {}, over.map(line))] : null,
      running.length || over.length ? null : h("div", { class: "empty" }, h("h2", {}, "Nothing was sent yet"), h("p", {}, "You write to groups and to single cases, look at what each will read, and send it by typing how many they are. What runs stands here, with its buttons to pause and to halt it.")));
  }

  // -- write
  function write() {
    const { offer } = state;
    if (!state.language) { state.language = offer.language; state.texts[offer.language] ??= ""; }
    const box = h("textarea", { class: "text", rows: 5, "aria-label": "Text", placeholder: "What they will read" });
    const meter = h("div", { class: "meter", role: "status" }), tabs = h("div", { class: "tabs", role: "tablist" });
    box.value = state.texts[state.language];
    let timer, asked = 0;
    async function measure() {
      const turn = ++asked;
      try {
        const m = await ask_("measure", { text: box.value });
        if (turn !== asked) return;
        put(meter, h("span", {}, `${m.parts} SMS each`), h("span", {}, `${m.has_fields ? "about " : ""}${m.units} of ${m.room} characters`), m.forced_by && h("span", { class: "warn" }, `${seen(m.forced_by)}${m.forced_name}, needs Unicode: 70 characters an SMS`),
          m.problem && h("span", { class: "bad" }, m.problem), m.cautions.length ? h("span", { class: "warn" }, `Look twice: ${m.cautions.join(", ")}`) : null);
      } catch (problem) { put(meter, h("span", { class: "bad" }, problem.message)); }
    }
    box.addEventListener("input", () => { state.texts[state.language] = box.value; clearTimeout(timer); timer = setTimeout(measure, 150); });
    function turn(language) { state.language = language; drawTabs(); box.value = state.texts[language]; measure(); box.focus(); }
    function drawTabs() {
      const others = offer.languages.filter((code) => !(code in state.texts));
      const add = h("button", { onclick: () => ask(root, "Another language", [h("p", { class: "soft" }, "Each case reads the text of its own language; who has none of these reads the first."), h("label", {}, h("span", {}, "Language code, such as sw or pt-BR"), h("input", { type: "text", name: "code", required: true, value: others[0] || "", autocomplete: "off" }))], "Add it",
        async ({ code }) => { const language = code.trim().toLowerCase(); if (!/^[a-z]{2,3}(-[a-z0-9]{2,8})*$/.test(language)) throw new Error(`${code} is no language code: write one like en, sw or pt-BR.`); state.texts[language] ??= ""; turn(language); }) }, "+ language");
      put(tabs, Object.keys(state.texts).map((code) => h("button", { role: "tab", "aria-selected": String(code === state.language), onclick: () => turn(code) }, spoken(code))), add,
        Object.keys(state.texts).length > 1 && state.language !== offer.language ? h("button", { style: "margin-left: auto; font-weight: 400", onclick: () => { delete state.texts[state.language]; turn(Object.keys(state.texts)[0]); } }, "Remove") : null);
    }
    const insert = (field) => { box.setRangeText(`{${field}}`, box.selectionStart, box.selectionEnd, "end"); box.dispatchEvent(new Event("input")); box.focus(); };
    const group = (g) => { const tick = h("input", { type: "checkbox", onchange: () => { tick.checked ? state.shorts.add(g.short) : state.shorts.delete(g.short); } }); tick.checked = state.shorts.has(g.short); return h("label", {}, tick, g.name, h("span", {}, g.members.toLocaleString("en"))); };
    const singles = h("textarea", { rows: 1, "aria-label": "Single cases", placeholder: "And single cases: a phone or an id", oninput: () => { state.typed = singles.value; } });
    singles.value = state.typed;
    const at = h("input", { type: "datetime-local", "aria-label": "At a time", style: "width: auto; font: inherit; border: 1px solid var(--pale); border-radius: 6px; padding: 4px 8px; min-height: 32px", onchange: () => { state.at = at.value; } });
    at.value = state.at;
    const go = h("button", { class: "main", onclick: () => tell(async () => { go.disabled = true; try { await look(); } finally { go.disabled = false; } }) }, "Look at it");
    result.replaceChildren();
    put(page,
      h("h2", { style: "margin-bottom: 14px" }, state.fixes ? `A correction of ${state.fixes}` : "A broadcast"),
      state.fixes ? h("p", { class: "soft", style: "margin-bottom: 18px" }, `It goes to exactly those whom ${state.fixes} reached.`) : h("fieldset", {}, h("legend", {}, "To whom"), h("div", { class: "choices" }, offer.groups.map(group)), h("div", { style: "margin-top: 8px" }, singles)),
      h("fieldset", {}, h("legend", {}, "What"), tabs, box, meter, h("div", { class: "fields", style: "margin-top: 8px" }, h("span", { class: "soft" }, "Put in"), offer.fields.map((field) => h("button", { type: "button", onclick: () => insert(field) }, `{${field}}`)), h("span", { class: "soft" }, "and for who has none: {name|friend}"))),
      h("fieldset", {}, h("legend", {}, "When"), h("div", { class: "row" }, at, h("span", { class: "soft" }, `Blank: as soon as you have sent it.${offer.hours ? ` Each gets it from ${offer.hours} by their own clock.` : ""}`))),
      result, h("div", { class: "row" }, go, h("button", { onclick: () => tell(leave) }, "Cancel")));
    drawTabs();
    measure();
  }
  async function leave() {
    if (state.looked) await ask_("drop", { number: state.looked.number });
    Object.assign(state, fresh());
    result.replaceChildren();
    await drawHome();
  }

  // -- look at it
  async function look() {
    state.looked = await ask_("look", { texts: state.texts, shorts: [...state.shorts], typed: state.typed, fixes: state.fixes, send_at: state.at, instead_of: state.looked?.number ?? null }, null, 120000);
    result.replaceChildren();
    preview(state.looked, false);
  }
  async function second(number) { result.replaceChildren(); preview(await ask_("look_again", { number }), true); }

  function preview(p, asSecond) {
    const several = p.languages.length > 1, out = h("div"), skipped = p.left_out.reduce((sum, r) => sum + r.count, 0);
    const typed = h("input", { type: "text", inputmode: "numeric", autocomplete: "off", style: "width: 110px", "aria-label": `Type ${p.recipients} to send` });
    const looked = h("input", { type: "checkbox" });
    const go = h("button", { class: "main", type: "submit" }, `Send to ${p.recipients.toLocaleString("en")} ${p.recipients === 1 ? "person" : "people"}`);
    const form = h("form", { onsubmit: (event) => { event.preventDefault(); tell(async () => {
      go.disabled = true;
      try { const done = await ask_("send", { number: p.number, typed: typed.value, looked: looked.checked }); Object.assign(state, fresh()); await open(p.number, done.says); }
      catch (problem) { go.disabled = false; throw problem; }
    }); } },
      p.cautions.length ? h("label", { class: "row says warn", style: "display: flex" }, looked, h("span", { style: "color: inherit; display: inline" }, `I looked twice: it says ${p.cautions.join(", ")}, which others may read over a shoulder or a network may act on.`)) : null,
      h("div", { class: "row" }, h("span", {}, "Type ", h("b", {}, p.recipients), " to send:"), typed, go));
    put(page,
      h("h2", {}, `${p.recipients.toLocaleString("en")} ${p.recipients === 1 ? "person gets" : "people get"} it`),
      h("div", { class: "figures" }, h("span", {}, p.parts > 1 ? "at most " : "", h("b", {}, p.parts), " SMS each"), h("span", {}, h("b", {}, p.total_parts.toLocaleString("en")), " SMS at most in all"), h("span", {}, p.takes, " at the gateway's rate"), skipped ? h("span", {}, h("b", {}, skipped.toLocaleString("en")), " left out") : null),
      asSecond ? says("warn", `${p.asked_by} wrote it and asks for your ok.`) : null,
      p.twin ? says("warn", p.twin) : null,
      p.languages.map((l) => h("section", {}, h("h3", {}, several ? `${spoken(l.language)}: ${l.readers.toLocaleString("en")} ${l.readers === 1 ? "reader" : "readers"}, ${l.parts > 1 ? "at most " : ""}${l.parts} SMS each` : "As they will read it"),
        l.samples.map((text) => h("div", { class: "bubble" }, text)), l.forced_by ? h("p", { class: "soft" }, `${begun(`${seen(l.forced_by)}${l.forced_name}`)}, needs Unicode: 70 characters an SMS.`) : null,
        state.offer.may_try && !asSecond ? h("button", { onclick: (event) => { const pressed = event.target; tell(async () => { pressed.disabled = true; try { pressed.parentElement.querySelector(".says")?.remove(); pressed.after(says("good", await ask_("try", { number: p.number, language: l.language }))); } finally { setTimeout(() => { pressed.disabled = false; }, 3000); } }); } }, "Send it to my own phone first") : null)),
      skipped ? h("section", {}, h("h3", {}, "Left out"), h("table", {}, h("tbody", {}, p.left_out.map((r) => h("tr", {}, h("td", { class: "n", style: "width: 64px" }, r.count.toLocaleString("en")), h("td", { style: "max-width: none" }, r.why))))), !asSecond ? h("button", { onclick: () => tell(async () => { const rows = await ask_("left_out", { number: p.number }); put(out, h("table", {}, h("tbody", {}, rows.map((r) => h("tr", {}, h("td", {}, r.name), h("td", {}, r.phone || ""), h("td", { class: "why" }, r.why)))))); }) }, "Who?") : null, out) : null,
      h("div", { class: "sheet" }, h("p", {}, p.begins), p.needs_second && !asSecond ? h("p", {}, `More than ${p.second_above} people: another lead is asked by text, and may say ok on this page as well.`) : null, p.recipients ? form : h("p", {}, "Nobody of those can be texted."), result,
        h("div", { class: "row", style: "margin-top: 12px" }, asSecond ? h("button", { onclick: () => tell(drawHome) }, "Back") : [h("button", { onclick: write }, "Change it"), h("button", { onclick: () => tell(leave) }, "Do not send it")])));
    root.scrollIntoView({ block: "start" });
    typed.focus({ preventScroll: true });
  }

  // -- one that goes
  async function open(number, told) {
    state.number = number;
    result.replaceChildren(told ? says("good", told) : "");
    await tell(drawOne);
  }
  async function drawOne() {
    const number = state.number, b = await ask_("broadcast", { number });
    if (state.number !== number) return;
    const act = (verb, label, kind) => { const button = h("button", { class: kind, onclick: () => tell(async () => { button.disabled = true; try { put(result, says("warn", await ask_(verb, { number }))); } finally { await drawOne(); } }) }, label); return button; };
    put(page,
      h("div", { class: "row top" }, h("h2", {}, `${b.number} to ${b.whom}`)), h("p", { class: "soft", role: "status" }, `${begun(b.state)}. Asked for by ${b.asked_by}, `, when(b.asked_at), "."), result,
      Object.entries(b.texts).map(([language, text]) => h("div", { class: "bubble" }, Object.keys(b.texts).length > 1 ? h("small", {}, spoken(language)) : null, text)),
      h("h3", {}, `${b.arrived.toLocaleString("en")} of ${(b.recipients - b.parts.skipped).toLocaleString("en")} sent`), gauge(b, "tall"),
      h("div", { class: "figures" }, PARTS.filter(([part]) => b.parts[part]).map(([part, words]) => h("span", {}, h("b", {}, b.parts[part].toLocaleString("en")), ` ${words}`))),
      h("div", { class: "row" }, b.may_resume ? act("resume", "Resume it", "main") : null, b.may_pause ? act("pause", "Pause it", "main") : null, b.may_halt ? act("halt", "Halt it", "main bad") : null, b.may_fix ? h("button", { onclick: () => { Object.assign(state, fresh(), { fixes: b.number, number: null }); write(); } }, "Correct it") : null, h("a", { href: `04_delivery.ipynb?number=${b.number}`, style: "color: var(--deep)" }, "What became of each"), h("span", { class: "gap" }), h("button", { onclick: () => tell(async () => { result.replaceChildren(); await drawHome(); }) }, "All broadcasts")));
    if (b.is_open) setTimeout(() => { if (state.alive && state.number === number) tell(drawOne); }, 2000);
  }

  (async () => {
    try { state.offer = await ask_("choices"); put(page, result); await drawHome(); }
    catch (problem) { put(page, says("bad", problem.message)); }
  })();
  return () => { state.alive = false; end(); };
}

export default { render };
