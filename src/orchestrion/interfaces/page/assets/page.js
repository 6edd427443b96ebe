// What the page does by itself: it follows the journal and lets views ask for themselves again, opens dialogs,
// keeps times current, and listens to keys. Everything that is shown comes from the server as markup or is set as text.
"use strict";
(() => {
  const body = document.body;
  const one = (selector, root = document) => root.querySelector(selector);
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const setText = (element, text) => { if (element.textContent !== text) element.textContent = text; };
  const dialog = one("#dialog");

  // -- views that ask for themselves again ------------------------------------------------------
  const LEAST_MS = 250; // between two requests of one view
  const ENDED = /^run\.(succeeded|failed|timed_out|killed|lost)$/;
  const asked = new WeakMap(); // view -> {at, timer}

  const concerns = (view, event) => {
    if (view.dataset.liveWhen === "ended" && !ENDED.test(event.kind)) return false;
    const about = view.dataset.live;
    return about === "*" || event.kind.startsWith(`${about}.`) || event.task === about || event.run === about;
  };
  const isWriting = (view) => {
    const active = document.activeElement;
    return active && view.contains(active) && active.matches("input, textarea, select");
  };
  const refresh = (view) => {
    const state = asked.get(view) || { at: 0, timer: 0 };
    if (state.timer || out) return;
    const wait = Math.max(20, state.at + LEAST_MS - performance.now());
    state.timer = setTimeout(() => {
      state.timer = 0;
      if (!view.isConnected) return;
      if (document.hidden || isWriting(view)) { stale = true; return; }
      state.at = performance.now();
      htmx.trigger(view, "live");
    }, wait);
    asked.set(view, state);
  };
  let stale = false;
  let out = false; // not let in any more
  const refreshAll = () => { stale = false; all("[data-live]").forEach(refresh); };
  document.addEventListener("visibilitychange", () => { if (!document.hidden && stale) refreshAll(); });
  document.addEventListener("focusout", () => { if (stale) setTimeout(() => { if (stale) refreshAll(); }, 50); });
  setInterval(() => {
    for (const view of all("[data-live-every]")) {
      const state = asked.get(view);
      if (!state || performance.now() - state.at > 1000 * Number(view.dataset.liveEvery)) if (connected) refresh(view);
    }
  }, 1000);

  // -- the journal, as server-sent events --------------------------------------------------------
  // Read with fetch and not with EventSource: kinds of events are many, and EventSource hears only those it names.
  let last = Number(body.dataset.since) || 0;
  let connected = false;
  const light = one("#live");
  let left = false; // for another page: what is cut short then is not lost
  addEventListener("pagehide", () => { left = true; });
  addEventListener("pageshow", () => { left = false; });
  let sign = Date.now(); // when the server was last heard
  const tell = (on) => {
    if (left || out) return;
    if (on && away) refreshAll();
    connected = on;
    light.classList.toggle("on", on);
    one(".wide", light).textContent = on ? "live" : "reconnecting";
    if (on) back(); else leave();
  };

  // -- while the server is away actions are off: nothing is sent, and nothing is kept to be sent later ----
  const BUTTONS = "button[hx-post], button[hx-get][hx-target='#dialog'], .ask-form .submit, form[action='/logout'] button";
  let away = null; // since when; null: it is there
  const leave = () => {
    away = away || new Date(sign);
    turnOff(`No connection since ${away.toTimeString().slice(0, 8)}. Actions are off. The page goes on by itself when the server is back.`);
  };
  let why = "";
  const turnOff = (text) => {
    why = text;
    const banners = all(".away");
    if (dialog.open && !one(".away", dialog)) {
      const copy = banners[0].cloneNode();
      copy.removeAttribute("id");
      dialog.append(copy);
      banners.push(copy);
    }
    for (const banner of banners) { if (!out) setText(banner, text); else if (!one("a", banner)) banner.replaceChildren(`${text} `, wayIn()); banner.hidden = false; }
    disable();
  };
  const disable = () => { for (const button of all(BUTTONS)) if (!button.disabled) { button.disabled = true; button.dataset.off = ""; } };
  const back = () => {
    away = null;
    all("dialog .away").forEach((banner) => banner.remove());
    one("#away").hidden = true;
    for (const button of all("[data-off]")) { button.disabled = false; delete button.dataset.off; }
  };
  const wayIn = () => Object.assign(document.createElement("a"), {
    href: `/login?next=${encodeURIComponent(location.pathname + location.search)}`, textContent: "Log in",
  });
  const shutOut = () => {
    tell(false);
    out = true;
    setText(one(".wide", light), "not let in");
    turnOff("You are no longer let in: your token or your session has ended. Actions are off.");
  };
  let written = false; // something in the dialog that is open
  dialog.addEventListener("input", () => { written = true; });
  dialog.addEventListener("close", () => { written = false; });
  // The server says with each view, and where the journal begins, whom it takes this browser for.
  const CALLER = "X-Orchestrion-Caller";
  const meet = (caller) => {
    if (!caller || caller === body.dataset.caller || left || out) return;
    if (!written) { left = true; location.reload(); return; }
    // What was written can still be copied; then the page shows what one may do now.
    shutOut();
    dialog.addEventListener("close", () => { if (out) location.reload(); }, { once: true });
  };
  // Another tab of this browser says whom it was made for. Who logged in again there goes on here.
  const tabs = new BroadcastChannel("caller");
  tabs.onmessage = ({ data }) => {
    if (!out) meet(data);
    else if (!written) location.reload();
    else if (data === body.dataset.caller) { out = false; follow(); }
  };
  if (body.dataset.caller) tabs.postMessage(body.dataset.caller);
  const isRefusal = (status) => status === 401 || status === 403;
  const whyOff = () => (out ? "you are no longer let in" : "there is no connection");
  let listening = new AbortController();
  addEventListener("offline", () => listening.abort());
  const heard = (block) => {
    let data = "";
    for (const line of block.split("\n")) {
      if (line.startsWith("data:")) data += line.slice(5).trim();
      if (line.startsWith("id:")) last = Number(line.slice(3)) || last;
    }
    if (!data) return;
    const event = JSON.parse(data);
    for (const view of all("[data-live]")) if (concerns(view, event)) refresh(view);
  };
  const SILENT_MS = 12000; // the server says every 5 s that it is there
  const listen = async () => {
    const stop = listening = new AbortController();
    let silence = setTimeout(() => stop.abort(), SILENT_MS);
    const hear = () => { clearTimeout(silence); sign = Date.now(); };
    try {
      const answer = await fetch(`/api/v1/events?since=${last}`, { headers: { Accept: "text/event-stream" }, signal: stop.signal });
      if (isRefusal(answer.status)) shutOut();
      if (!answer.ok) throw new Error(`events: ${answer.status}`);
      meet(answer.headers.get(CALLER));
      tell(true);
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      let rest = "";
      for (;;) {
        hear();
        silence = setTimeout(() => stop.abort(), SILENT_MS);
        const { done, value } = await reader.read();
        if (done) return;
        const blocks = (rest + value).replaceAll("\r\n", "\n").split("\n\n");
        rest = blocks.pop();
        blocks.forEach(heard);
      }
    } finally {
      // A server that ended the stream, or cannot be reached, was heard just now or is away already; one that is silent was not.
      if (connected && !stop.signal.aborted) hear();
      clearTimeout(silence);
    }
  };
  const follow = async () => {
    for (let pause = 250; !out; pause = Math.min(pause * 2, 5000)) {
      const was = connected;
      try { await listen(); pause = 250; } catch { /* the server is away for a moment; it is asked again */ }
      if (was || connected) pause = 250;
      tell(false);
      await new Promise((go) => setTimeout(go, pause));
      // What happened meanwhile is replayed from the number of the last event.
    }
  };
  // When it says "live", buttons work: the library has found them by then.
  if (body.dataset.since !== undefined && light) document.addEventListener("htmx:load", follow, { once: true });

  // -- what was done ------------------------------------------------------------------------------
  const done = () => { if (dialog.open) dialog.close(); refreshAll(); };
  document.addEventListener("htmx:afterSwap", (event) => {
    if (event.detail.target !== dialog) return;
    if (!dialog.open) dialog.showModal();
    if (away || out) turnOff(why); // what came has replaced the banner
    const first = one("[aria-invalid]", dialog) || one("textarea, input:not([type=hidden]), select", dialog);
    if (first) { first.focus(); if (first.select) first.select(); }
  });
  const isAction = ({ requestConfig, target }) => requestConfig.verb !== "get" || target === dialog;
  const element = (tag, name, text) => Object.assign(document.createElement(tag), { className: name, textContent: text || "" });
  // A problem stands where it was caused: in the dialog, else as a note that stays until it is closed.
  const fail = (cause, text, hint) => {
    const form = cause.closest(".ask-form");
    const place = form ? element("p", "wrong") : element("div", "note problem");
    place.setAttribute("role", "alert");
    const line = form ? place : element("p");
    line.append(element("strong", "", text), " ", element("span", "", hint));
    if (form) {
      all("[data-wrong='']", form).forEach((old) => old.remove());
      place.dataset.wrong = "";
      one("h2", form).after(place);
      return;
    }
    const close = element("button", "icon", "×");
    close.type = "button";
    close.dataset.dismiss = "";
    close.setAttribute("aria-label", "Close this note");
    place.append(line, close);
    one("#notes").append(place);
  };
  const named = (cause) => {
    const heading = one("h2", cause.closest(".ask-form") || document.createElement("p"));
    return `“${heading ? heading.textContent : cause.getAttribute("aria-label") || cause.textContent.trim()}”`;
  };
  const unanswered = ({ detail }) => {
    const cause = detail.requestConfig.elt;
    if (!isAction(detail)) return;
    const hint = detail.requestConfig.verb === "get" ? "" : cause.matches(".ask-form") ? "Whether it was done is not known. Send it again when the connection is back: it is done once."
      : "Whether it was done is seen here when the connection is back; it is not sent again.";
    fail(cause, `${named(cause)} got no answer from the server.`, hint);
  };
  document.addEventListener("htmx:sendError", unanswered);
  document.addEventListener("htmx:sendAbort", unanswered);
  document.addEventListener("htmx:timeout", unanswered);
  // An action may take long; a server that does not even say that it lives is away, and what waits for it is given up.
  const PATIENCE_MS = 4000, LIFE_MS = 3000;
  const waiting = new Set();
  const lives = () => fetch("/livez", { cache: "no-store", signal: AbortSignal.timeout(LIFE_MS) }).then(() => true, () => false);
  const wonder = async (xhr) => {
    if (!waiting.has(xhr)) return;
    if (await lives()) { setTimeout(wonder, PATIENCE_MS, xhr); return; }
    if (!waiting.size) return;
    [...waiting].forEach((one) => one.abort());
    listening.abort();
  };
  document.addEventListener("htmx:afterRequest", ({ detail }) => {
    waiting.delete(detail.xhr);
    if (away || out) disable(); // the library has just turned its button on again
  });
  document.addEventListener("htmx:beforeRequest", (event) => {
    if (!isAction(event.detail)) return;
    if (!away && !out) {
      waiting.add(event.detail.xhr);
      setTimeout(wonder, PATIENCE_MS, event.detail.xhr);
      return;
    }
    event.preventDefault();
    const cause = event.detail.requestConfig.elt;
    fail(cause, `${named(cause)} was not done: ${whyOff()}.`, "");
  });
  // What a dialog is told that is sent again, with the key that it had before.
  const SENT_BEFORE = { key_reused: "was done already, with what it said before", already_done: "was done already", in_progress: "is still being done" };
  document.addEventListener("htmx:beforeSwap", ({ detail }) => {
    const { xhr, requestConfig } = detail;
    meet(xhr.getResponseHeader(CALLER));
    if (xhr.status < 400 && requestConfig.verb === "post") done();
    // Who is somebody else now is told that, and not what that one may not do.
    if (out && xhr.status >= 400 && isAction(detail)) {
      detail.shouldSwap = false;
      fail(requestConfig.elt, `${named(requestConfig.elt)} was not done: ${whyOff()}.`, "");
      return;
    }
    // A form that is refused comes back with the problem at its field.
    if (xhr.status < 400 || xhr.getResponseHeader("HX-Retarget")) return;
    detail.shouldSwap = isAction(detail) && detail.serverResponse.includes('class="note');
    if (!isAction(detail) && isRefusal(xhr.status)) shutOut();
    if (detail.shouldSwap) {
      detail.target = one("#notes");
      detail.swapOverride = "beforeend";
    } else if (isAction(detail)) {
      let told = {};
      try { told = JSON.parse(detail.serverResponse); } catch { /* somebody between us and the server answered */ }
      if (xhr.status === 401) shutOut();
      if (out) fail(requestConfig.elt, `${named(requestConfig.elt)} was not done: ${whyOff()}.`, "");
      else if (told.code in SENT_BEFORE) fail(requestConfig.elt, `${named(requestConfig.elt)} ${SENT_BEFORE[told.code]}.`, "Close this and look.");
      else fail(requestConfig.elt, told.detail || `${named(requestConfig.elt)} was refused: the answer was ${xhr.status}.`, told.hint || "");
    }
  });
  // What is corrected is not wrong any more.
  dialog.addEventListener("input", ({ target }) => {
    all("[data-wrong]", dialog).filter(({ dataset }) => ["", target.name].includes(dataset.wrong)).forEach((wrong) => wrong.remove());
    target.removeAttribute("aria-invalid");
  });
  dialog.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
    const submit = one(".submit", dialog);
    if (submit && !submit.disabled) submit.form.requestSubmit(submit);
  });
  document.addEventListener("click", (event) => {
    if (event.target.closest("[data-close]")) dialog.close();
    const note = event.target.closest("[data-dismiss]");
    if (note) note.closest(".note").remove();
    if (event.target === dialog) dialog.close();
  });
  new MutationObserver((changes) => {
    for (const change of changes) for (const note of change.addedNodes)
      if (note.nodeType === 1 && note.matches(".note:not(.problem)")) setTimeout(() => note.remove(), 5000);
    const notes = all("#notes .note");
    notes.slice(0, Math.max(0, notes.length - 4)).forEach((note) => note.remove());
  }).observe(one("#notes"), { childList: true });

  // Folds that a person opened, the chosen card and drawings stay when a view is renewed.
  if (window.Idiomorph) {
    const kept = (element) => element.nodeType === 1 && element.dataset && "keep" in element.dataset;
    Object.assign(Idiomorph.defaults.callbacks, {
      beforeAttributeUpdated: (name, element) =>
        !(name === "open" && element.tagName === "DETAILS") && !(name === "class" && element.classList.contains("chosen")) && !kept(element),
      beforeNodeRemoved: (node) => !(node.parentElement && node.parentElement.closest("[data-keep]")),
      beforeNodeMorphed: (old) => !(kept(old) && old.childElementCount && !old.matches("figure")),
    });
  }

  // The tab of this view is seen, on a narrow screen too.
  const tab = one(".bar nav [aria-current]");
  if (tab) tab.parentElement.scrollLeft = tab.offsetLeft - (tab.parentElement.clientWidth - tab.offsetWidth) / 2;

  // -- times -----------------------------------------------------------------------------------------
  const units = [[86400, "d"], [3600, "h"], [60, "min"]];
  const ago = (seconds) => {
    const size = Math.abs(seconds);
    if (size < 10) return seconds < 0 ? "in a moment" : "just now";
    const [length, unit] = units.find(([length]) => size >= length) || [1, "s"];
    const text = `${Math.floor(size / length)} ${unit}`;
    return seconds < 0 ? `in ${text}` : `${text} ago`;
  };
  const lasts = (seconds) => {
    const s = Math.max(0, Math.floor(seconds));
    return s < 3600 ? `${Math.floor(s / 60)}:${two(s % 60)}` : `${Math.floor(s / 3600)}:${two(Math.floor(s / 60) % 60)}:${two(s % 60)}`;
  };
  const two = (number) => String(number).padStart(2, "0");
  const day = (date) => `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  const clock = (date, now) => `${day(date) === day(now) ? "" : `${day(date)} `}${two(date.getHours())}:${two(date.getMinutes())}`;
  const tick = () => {
    const now = Date.now();
    for (const time of all("time[data-at]")) {
      setText(time, clock(new Date(time.dateTime), new Date(now)));
      if (!time.title) time.title = time.dateTime;
    }
    for (const time of all("time[data-ago]")) {
      setText(time, ago((now - Date.parse(time.dateTime)) / 1000));
      if (!time.title) time.title = time.dateTime;
    }
    for (const time of all("time[data-lasts]")) setText(time, lasts((now - Date.parse(time.dateTime)) / 1000));
  };
  tick();
  setInterval(tick, 1000);
  document.addEventListener("htmx:afterSwap", tick);
  document.addEventListener("htmx:oobAfterSwap", tick);

  // -- the log stays at its end while one is there -------------------------------------------------
  const log = one(".log");
  if (log) {
    log.scrollTop = log.scrollHeight;
    let atEnd = true;
    log.addEventListener("scroll", () => { atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 40; });
    document.addEventListener("htmx:afterSettle", () => { if (atEnd) log.scrollTop = log.scrollHeight; });
  }

  // -- find ------------------------------------------------------------------------------------------
  const find = one("#find"), found = one("#found");
  let turn = 0;
  const close = () => { found.hidden = true; find.setAttribute("aria-expanded", "false"); find.removeAttribute("aria-activedescendant"); };
  const show = (results, text) => {
    found.replaceChildren(...(results.length ? results : [{ title: `Nothing matches “${text}”` }]).map((result, place) => {
      const item = document.createElement("li");
      item.role = "option";
      item.id = `found-${place}`;
      if (!result.path) { item.textContent = result.title; item.className = "empty"; return item; }
      const link = document.createElement("a"), id = document.createElement("span"), state = document.createElement("span");
      link.href = result.path;
      link.tabIndex = -1;
      id.className = "id"; id.textContent = result.id;
      state.className = "meta"; state.textContent = result.state.replaceAll("_", " ");
      link.append(id, ` ${result.title} `, state);
      item.append(link);
      return item;
    }));
    found.hidden = false;
    find.setAttribute("aria-expanded", "true");
  };
  const choose = (step) => {
    const items = all("li a", found).map((link) => link.parentElement);
    if (!items.length) return;
    const at = items.findIndex((item) => item.classList.contains("chosen"));
    items.forEach((item) => { item.classList.remove("chosen"); item.ariaSelected = "false"; });
    const next = items[(at + step + items.length) % items.length];
    next.classList.add("chosen");
    next.ariaSelected = "true";
    find.setAttribute("aria-activedescendant", next.id);
  };
  let typing = 0;
  find.addEventListener("input", () => {
    clearTimeout(typing);
    const text = find.value.trim(), mine = ++turn;
    if (!text) { close(); return; }
    typing = setTimeout(async () => {
      try {
        const answer = await fetch(`/search?q=${encodeURIComponent(text)}`);
        if (isRefusal(answer.status)) shutOut();
        if (mine !== turn) return;
        if (!answer.ok) { close(); return; }
        show((await answer.json()).results, text);
        choose(1);
      } catch { close(); /* the banner says that there is no connection */ }
    }, 150);
  });
  find.addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown") { choose(1); event.preventDefault(); }
    if (event.key === "ArrowUp") { choose(-1); event.preventDefault(); }
    if (event.key === "Enter") { const link = one("li.chosen a", found); if (link) location.assign(link.href); }
    if (event.key === "Escape") { close(); find.blur(); }
  });
  find.addEventListener("blur", () => setTimeout(close, 200));

  // -- keys ------------------------------------------------------------------------------------------
  const cards = () => all(".card").filter((card) => card.offsetParent !== null);
  // One card is chosen, and looks it: the last one that had the focus, by key or by mouse. No key acts on one that is not seen.
  const chosen = () => { const card = document.activeElement.closest(".card") || one(".card.chosen"); return card && card.offsetParent ? card : null; };
  const mark = (card) => { all(".card.chosen").forEach((other) => other.classList.remove("chosen")); card.classList.add("chosen"); };
  document.addEventListener("focusin", ({ target }) => { const card = target.closest(".card"); if (card) mark(card); });
  const pick = (card) => {
    if (!card) return;
    mark(card);
    card.focus({ preventScroll: true });
    card.scrollIntoView({ block: "nearest", inline: "nearest" });
  };
  const walk = (step) => {
    const now = chosen(), column = now ? now.closest(".column") : one(".column:has(.card)");
    if (!column) return;
    const there = all(".card", column), at = there.indexOf(now);
    pick(there[Math.max(0, Math.min(there.length - 1, at + step))] || there[0]);
  };
  const cross = (step) => {
    const columns = all(".column:has(.card)"), now = chosen();
    const at = now ? columns.indexOf(now.closest(".column")) : -step;
    const column = columns[Math.max(0, Math.min(columns.length - 1, at + step))];
    if (column) pick(one(".card", column));
  };
  const say = (text) => {
    const note = element("div", "note");
    note.setAttribute("role", "status");
    note.append(element("p", "", text));
    one("#notes").append(note);
  };
  // What a key does not do is said: a person who pressed it waits for something.
  const idle = (key, why) => say(`“${key}” does nothing here: ${"reading" in body.dataset ? "you may only read" : why}.`);
  const press = (button) => {
    if ("off" in button.dataset) fail(button, `${named(button)} was not done: ${whyOff()}.`, "");
    else button.click();
  };
  const act = (key) => {
    const place = chosen() || one(".thing"), button = place && one(`[data-key="${key}"]`, place);
    if (button) press(button);
    else if (place) idle(key, "no button that is there now has it");
    else if (one(".board")) idle(key, "no card is chosen; j and k choose one");
  };
  let going = 0;
  const KEYS = {
    "/": () => find.focus(),
    "?": () => one("#help").showModal(),
    n: () => { const button = one("[data-new]"); if (button) press(button); else idle("n", ""); },
    j: () => walk(1), ArrowDown: () => walk(1), k: () => walk(-1), ArrowUp: () => walk(-1),
    l: () => cross(1), h: () => cross(-1),
    g: () => { going = performance.now(); },
    Enter: () => { const card = one(".card:focus"); const link = card && one(".title a", card); if (link) location.assign(link.href); },
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    // A dialog that was closed a moment ago still has the focus.
    const inside = event.target.closest("dialog");
    if (inside ? inside.open : event.target.closest("input, textarea, select")) return;
    if (going && performance.now() - going < 1500 && event.key.length === 1) {
      going = 0;
      const link = one(`[data-go="${CSS.escape(event.key)}"]`);
      if (link) { event.preventDefault(); location.assign(link.href); }
      return;
    }
    if (event.key === "Enter" && !event.target.matches(".card")) return;
    if (event.key.startsWith("Arrow") && !chosen()) return;
    const move = KEYS[event.key];
    if (move) { event.preventDefault(); move(); } else if ("arpdmx".includes(event.key)) act(event.key);
  });
  one("#keys").addEventListener("click", () => one("#help").showModal());

  // -- light and dark ----------------------------------------------------------------------------------
  one("#theme").addEventListener("click", () => {
    const root = document.documentElement;
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    try { localStorage.setItem("theme", root.dataset.theme); } catch { /* then it lasts until the page is left */ }
    document.dispatchEvent(new Event("theme"));
  });
})();
