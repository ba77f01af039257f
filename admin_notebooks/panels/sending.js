// What the pages of broadcasts share: the parts of a funnel as a gauge, moments, languages, and putting children in place.

const PARTS = [["delivered", "delivered"], ["on_its_way", "on its way"], ["to_go", "still to go"], ["unclear", "unclear"], ["failed", "failed"], ["skipped", "skipped"], ["halted", "halted"]];
const clock = (iso) => (iso ? new Date(iso).toLocaleString("en-GB", { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", second: "2-digit" }) : "");
const gauge = (b, kind = "") => h("span", { class: `gauge ${kind}`, role: "img", "aria-label": PARTS.filter(([part]) => b.parts[part]).map(([part, words]) => `${b.parts[part]} ${words}`).join(", ") },
  PARTS.filter(([part]) => b.parts[part]).map(([part]) => h("i", { class: part, style: `flex: ${b.parts[part]}` })));
const LANGUAGES = new Intl.DisplayNames(["en"], { type: "language" });
const spoken = (code) => { try { return LANGUAGES.of(code); } catch { return code; } };
const put = (place, ...children) => place.replaceChildren(...children.flat().filter((child) => child));
const begun = (words) => words.charAt(0).toUpperCase() + words.slice(1);
