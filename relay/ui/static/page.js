// What moves on a page: one stream of server-sent events, which replaces parts by their id.
// Nothing here is needed to read a page or to send a form.

const connection = document.getElementById("connection");

function say(text) {
  if (!connection) return;
  connection.textContent = text;
  connection.hidden = !text;
}

// One stream for the page's first element with data-live; it moves when htmx replaces that element.
// A hidden page has none: browsers open six connections to a host, and more pages than that.
const stream = { url: "", source: null, timer: 0, waitMs: 1000, isFirst: true };

function follow() {
  const url = document.querySelector("[data-live]")?.dataset.live ?? "";
  if (url === stream.url) return;
  rest();
  stream.url = url;
  stream.waitMs = 1000;
  stream.isFirst = true;
  if (url && !document.hidden) open();
}

function rest() {
  stream.source?.close();
  stream.source = null;
  clearTimeout(stream.timer);
}

// Only the first stream may take the page for what the server made: parts have changed since.
function address() {
  if (stream.isFirst) return stream.url;
  const url = new URL(stream.url, location.href);
  url.searchParams.delete("seen");
  url.searchParams.delete("rows");
  return url.href;
}

function open() {
  const source = (stream.source = new EventSource(address()));
  source.addEventListener("open", () => {
    stream.isFirst = false;
    stream.waitMs = 1000;
    say("");
  });
  source.addEventListener("part", (event) => replace(JSON.parse(event.data)));
  source.addEventListener("anew", () => location.reload());
  source.addEventListener("error", () => {
    // The browser tries again only where the connection broke, not where it was answered.
    source.close();
    say("The connection to the relay is lost. Trying again…");
    stream.timer = setTimeout(again, stream.waitMs * (0.75 + Math.random() / 2));
    stream.waitMs = Math.min(stream.waitMs * 2, 15000);
  });
}

async function again() {
  // A session that is over answers 401: then nothing but a new login helps.
  try {
    const answer = await fetch(stream.url, { method: "HEAD", headers: { Accept: "text/event-stream" } });
    if (answer.status === 401) {
      say("You are signed out. Reload the page to sign in again.");
      return;
    }
    if (answer.status === 429) {
      say("Too many pages are open to keep this one up to date. Trying again…");
      stream.timer = setTimeout(again, 15000);
      return;
    }
  } catch {
    // Still away: the next error comes from the stream.
  }
  open();
}

function replace({ id, html }) {
  const old = document.getElementById(id);
  if (!old || old.contains(document.activeElement) && old !== document.activeElement && old.querySelector("form, input, textarea")) return;
  const focused = old.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
  const template = document.createElement("template");
  template.innerHTML = html;
  const fresh = template.content.firstElementChild;
  for (const opened of old.querySelectorAll("details[open][id]")) {
    fresh.querySelector(`#${CSS.escape(opened.id)}`)?.setAttribute("open", "");
  }
  old.replaceWith(fresh);
  window.htmx?.process(fresh);
  if (focused) fresh.querySelector(`[href="${CSS.escape(focused)}"]`)?.focus();
  document.dispatchEvent(new CustomEvent("relay:part", { detail: fresh }));
}

document.addEventListener("htmx:afterSettle", follow);
// What was refused is told in the relay's own words; what was written stays.
let isRefused = false;
document.addEventListener("htmx:responseError", ({ detail: { xhr } }) => {
  isRefused = true;
  const answer = document.createElement("template");
  answer.innerHTML = xhr.responseText;
  say(answer.content.textContent.trim() || `The relay has refused it (${xhr.status}).`);
  connection?.scrollIntoView({ block: "nearest" });
});
document.addEventListener("htmx:sendError", () => say("The relay does not answer. Try again in a moment."));
document.addEventListener("htmx:afterOnLoad", ({ detail }) => {
  if (!detail.successful || (stream.url && !isRefused)) return;
  isRefused = false;
  say("");
});
window.addEventListener("pagehide", rest);
document.addEventListener("visibilitychange", () => {
  rest();
  if (!document.hidden && stream.url) open();
});
window.addEventListener("pageshow", (event) => { if (event.persisted && stream.url && !stream.source) open(); });
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  for (const menu of document.querySelectorAll("details.menu[open]")) {
    menu.open = false;
    if (menu.contains(document.activeElement)) menu.querySelector("summary").focus();
  }
});
document.addEventListener("click", (event) => {
  for (const menu of document.querySelectorAll("details.menu[open]")) if (!menu.contains(event.target)) menu.open = false;
});
follow();

// Charts: the drawing of the server stands until there is one that answers the pointer.
const drawn = new WeakMap();
const LEGEND_PX = 30;

function draw(root) {
  if (!window.uPlot) return;
  for (const place of root.querySelectorAll("[data-columns]")) {
    if (drawn.has(place)) continue;
    const data = JSON.parse(place.dataset.columns);
    const style = getComputedStyle(place);
    const colour = (name) => style.getPropertyValue(name).trim();
    const axis = { stroke: colour("--muted"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false }, font: "12px system-ui" };
    const clock = (at) => new Date(at * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hour12: false });
    const seconds = (one) => (one == null ? "–" : one < 1 ? `${Math.round(one * 1000)} ms` : `${one.toFixed(1)} s`);
    const above = (share, least) => (_, low, high) => [0, high > 0 ? high * share : least];
    const options = {
      width: place.clientWidth,
      height: place.clientHeight - LEGEND_PX,
      cursor: { y: false, drag: { x: false, y: false } },
      // The legend tells the newest values, until the pointer asks for others.
      hooks: { setCursor: [(self) => { if (self.cursor.left < 0) self.setLegend({ idx: data[0].length - 1 }, false); }] },
      scales: { y: { range: above(1.15, 1) }, s: { range: above(1.6, 0.01) } },
      axes: [
        { ...axis, size: 26, incrs: [60, 300, 600, 900, 1800], values: (_, ticks) => ticks.map(clock) },
        { ...axis, size: 56, values: (_, ticks) => ticks.map((one) => `${one}/s`) },
        { ...axis, scale: "s", side: 1, size: 60, grid: { show: false }, values: (_, ticks) => ticks.map(seconds) },
      ],
      series: [
        { value: (_, at) => (at == null ? "–" : clock(at)) },
        { label: place.dataset.unit, stroke: colour("--c1"), width: 2, fill: colour("--accent-soft"), points: { show: false }, value: (_, one) => (one == null ? "–" : one < 10 ? one : Math.round(one)) },
        { label: "A request", scale: "s", stroke: colour("--c3"), width: 1.5, dash: [4, 3], spanGaps: true, points: { show: false }, value: (_, one) => seconds(one) },
      ],
    };
    place.replaceChildren();
    const chart = new window.uPlot(options, data, place);
    chart.root.setAttribute("aria-hidden", "true"); // the caption says it in words
    drawn.set(place, chart);
    new ResizeObserver(() => chart.setSize({ width: place.clientWidth, height: place.clientHeight - LEGEND_PX })).observe(place);
  }
}

document.addEventListener("relay:part", (event) => draw(event.detail.parentElement ?? document));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  for (const place of document.querySelectorAll("[data-columns]")) {
    drawn.get(place)?.destroy();
    drawn.delete(place);
  }
  draw(document);
});
draw(document);

// Writing: focus stays where it was when a part is replaced; messages mark their fields.
let focused = null;
document.addEventListener("htmx:beforeSwap", () => {
  const one = document.activeElement;
  focused = one?.id ? { id: one.id, start: one.selectionStart, end: one.selectionEnd } : null;
});
document.addEventListener("htmx:afterSettle", (event) => {
  mark();
  // What went wrong is read first; htmx itself puts the focus back on the button.
  const first = event.target.querySelector?.("[autofocus]");
  if (first) {
    first.removeAttribute("autofocus");
    first.focus();
    return;
  }
  if (!focused || document.activeElement !== document.body) return;
  const one = document.getElementById(focused.id);
  one?.focus({ preventScroll: true });
  if (one && focused.start != null && one.type !== "number") one.setSelectionRange?.(focused.start, focused.end);
});

function mark() {
  for (const message of document.querySelectorAll(".wrong[data-for]")) {
    const field = document.getElementById(message.dataset.for);
    if (!field) continue;
    if (message.textContent.trim()) field.setAttribute("aria-invalid", "true");
    else field.removeAttribute("aria-invalid");
  }
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-fill]");
  if (!button) return;
  const field = document.getElementById(button.dataset.fill);
  field.value = button.dataset.value;
  field.focus();
  field.dispatchEvent(new Event("input", { bubbles: true }));
});
document.addEventListener("input", ({ target }) => {
  for (const button of document.querySelectorAll("[data-fill][aria-pressed]")) {
    if (button.dataset.fill === target.id) button.setAttribute("aria-pressed", String(button.dataset.value === target.value));
  }
});

// Completion of selectors, from the customer's own series. Arrows choose, Enter and Tab take.
const offer = { field: null, list: null, answer: null, chosen: -1, timer: 0, number: 0 };

function closeOffer() {
  clearTimeout(offer.timer);
  offer.number += 1;
  offer.list?.remove();
  if (offer.field) {
    offer.field.removeAttribute("aria-activedescendant");
    offer.field.removeAttribute("aria-controls");
  }
  offer.list = offer.answer = null;
  offer.chosen = -1;
}

async function ask(field) {
  const number = (offer.number += 1);
  const body = new URLSearchParams({ text: field.value, at: field.selectionStart });
  let answer;
  try {
    const response = await fetch(field.dataset.complete, { method: "POST", body });
    if (!response.ok) return;
    answer = await response.json();
  } catch {
    return; // the page says by other means that the relay is away
  }
  if (number !== offer.number || document.activeElement !== field) return;
  offer.list?.remove();
  const word = field.value.slice(answer.from, answer.to);
  const options = answer.options.filter((one) => one.insert !== word);
  if (!options.length) return closeOffer();
  const list = document.createElement("ul");
  list.id = "offer";
  list.className = "offer";
  list.setAttribute("role", "listbox");
  list.setAttribute("aria-label", "Completions");
  options.forEach((option, index) => {
    const one = document.createElement("li");
    one.id = `offer-${index}`;
    one.setAttribute("role", "option");
    one.setAttribute("aria-selected", "false");
    one.textContent = option.text;
    list.append(one);
  });
  field.after(list);
  field.setAttribute("aria-controls", list.id);
  Object.assign(offer, { field, list, answer: { ...answer, options }, chosen: -1 });
}

function choose(step) {
  const items = offer.list.children;
  if (offer.chosen >= 0) items[offer.chosen].setAttribute("aria-selected", "false");
  offer.chosen = (offer.chosen + step + items.length + (offer.chosen < 0 && step < 0 ? 1 : 0)) % items.length;
  const one = items[offer.chosen];
  one.setAttribute("aria-selected", "true");
  one.scrollIntoView({ block: "nearest" });
  offer.field.setAttribute("aria-activedescendant", one.id);
}

function take(index) {
  const { field, answer } = offer;
  const text = answer.options[index].insert;
  field.setRangeText(text, answer.from, answer.to, "end");
  closeOffer();
  field.focus();
  field.dispatchEvent(new Event("input", { bubbles: true }));
  if (answer.kind === "label") ask(field); // its values come next
}

document.addEventListener("input", (event) => {
  const field = event.target.closest?.("[data-complete]");
  if (!field) return;
  closeOffer();
  offer.field = field;
  if (event.isTrusted) offer.timer = setTimeout(ask, 250, field);
});
document.addEventListener(
  "keydown",
  (event) => {
    if (!offer.list || event.target !== offer.field) return;
    if (event.key === "ArrowDown") choose(1);
    else if (event.key === "ArrowUp") choose(-1);
    else if (event.key === "Escape") closeOffer();
    else if ((event.key === "Enter" || event.key === "Tab") && offer.chosen >= 0) take(offer.chosen);
    else return;
    event.preventDefault();
  },
  true,
);
document.addEventListener("pointerdown", (event) => {
  const one = event.target.closest?.("[role=option]");
  if (!one || !offer.list?.contains(one)) return;
  event.preventDefault();
  take([...offer.list.children].indexOf(one));
});
document.addEventListener("focusout", (event) => {
  if (event.target === offer.field) closeOffer();
});
