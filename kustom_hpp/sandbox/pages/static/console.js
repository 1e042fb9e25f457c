/* Keeps the console up to date, sends its forms without a reload, and copies. Each part of the page comes as HTML. */

"use strict";

(() => {
  const byId = (id) => document.getElementById(id);
  const main = byId("main");
  const list = byId("rows");
  const search = byId("q");
  const max = Number(main.dataset.max);
  let source = null;
  let retry = 0;
  let first = true;

  function setLive(state, text) {
    const live = byId("live");
    if (live.dataset.state !== state) {
      live.dataset.state = state;
      live.textContent = text;
    }
  }

  /* Times arrive in UTC and are shown in the browser's time zone, in the notation of ISO 8601. */
  const format = new Intl.DateTimeFormat("sv", {
    year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit", second: "2-digit",
    timeZoneName: "short",
  });

  function parse(html) {
    const template = document.createElement("template");
    template.innerHTML = html;
    prepare(template.content);
    return template.content;
  }

  function prepare(root) {
    for (const time of root.querySelectorAll("time[datetime]")) {
      time.textContent = format.format(new Date(time.dateTime));
    }
  }

  /* Replaces a part; a button that has the focus gets it back. */
  function replacePart(old, fresh) {
    const focused = old.contains(document.activeElement) ? document.activeElement.form?.action : null;
    old.replaceWith(fresh);
    if (focused) {
      [...fresh.querySelectorAll("form")].find((form) => form.action === focused)?.querySelector("button")?.focus();
    }
  }

  /* Part by part, so that an open row stays open. */
  function refresh(old, fresh) {
    old.dataset.group = fresh.dataset.group;
    for (const part of fresh.querySelectorAll("[data-part]")) {
      const there = old.querySelector(`[data-part="${part.dataset.part}"]`);
      if (there && there.outerHTML !== part.outerHTML) {
        replacePart(there, part);
      }
    }
  }

  function update({ order, items, counts, rules, limits }) {
    for (const [group, count] of Object.entries(counts)) {
      byId(`count-${group}`).textContent = count;
    }
    byId("limits-now").textContent = limits;
    if (rules !== undefined) {
      const fresh = byId("rules").cloneNode(false);
      fresh.append(parse(rules));
      replacePart(byId("rules"), fresh);
    }

    const shown = new Set(order);
    for (const item of [...list.children]) {
      if (!shown.has(item.id)) {
        item.remove();
      }
    }
    let place = list.firstElementChild;
    for (const id of order) {
      let item = byId(id);
      const html = items[id];
      if (!item && html) {
        item = parse(html).querySelector("li");
        item.classList.toggle("fresh", !first);
      } else if (item && html) {
        refresh(item, parse(html).querySelector("li"));
      }
      if (item === place) {
        place = place?.nextElementSibling;
      } else if (item) {
        const focused = item.contains(document.activeElement) ? document.activeElement : null;
        list.insertBefore(item, place);
        focused?.focus({ preventScroll: true });
      }
    }
    first = false;

    const blank = counts.all === 0;
    if (!blank && main.classList.contains("blank")) {
      byId("connect").querySelectorAll("details").forEach((snippet) => { snippet.open = false; });
    }
    main.classList.toggle("blank", blank);
    byId("activity").hidden = blank;
    byId("nothing").hidden = order.length > 0;
    byId("more").hidden = order.length < max;
  }

  function connect() {
    source?.close();
    clearTimeout(retry);
    source = new EventSource(main.dataset.stream + location.search);
    source.onopen = () => setLive("on", "Live");
    source.onmessage = (event) => update(JSON.parse(event.data));
    source.onerror = () => {
      setLive("lost", "Connection lost, trying again");
      // A browser retries on its own, but not after a response that is not a stream.
      if (source.readyState === EventSource.CLOSED) {
        retry = setTimeout(connect, 2000);
      }
    };
  }

  function applySearch() {
    const query = search.value.trim();
    const withQuery = (url) => {
      if (query) {
        url.searchParams.set("q", query);
      } else {
        url.searchParams.delete("q");
      }
      return url.pathname + url.search;
    };
    history.replaceState(null, "", withQuery(new URL(location.href)));
    for (const link of document.querySelectorAll(".filter")) {
      link.href = withQuery(new URL(link.href));
    }
    first = true;
    connect();
  }

  let typing = 0;
  search.addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(applySearch, 200);
  });
  search.form.addEventListener("submit", (event) => {
    event.preventDefault();
    clearTimeout(typing);
    applySearch();
  });
  search.form.querySelector("button").hidden = true;

  function notify(text) {
    const notice = byId("notice");
    notice.replaceChildren();
    if (text) {
      notice.append(Object.assign(document.createElement("p"), { className: "notice", textContent: text }));
      notice.scrollIntoView({ block: "nearest" });
    }
  }

  /* An action redirects; a failure is this page with a notice. */
  async function send(form) {
    try {
      const body = new URLSearchParams(new FormData(form));
      const response = await fetch(form.action, { method: "POST", body, redirect: "manual" });
      if (response.type === "opaqueredirect") {
        notify("");
        form.reset();
        return;
      }
      const page = new DOMParser().parseFromString(await response.text(), "text/html");
      notify(page.getElementById("notice")?.textContent.trim() || `The sandbox responded with ${response.status}.`);
    } catch {
      notify("The sandbox does not respond.");
    }
  }

  document.addEventListener("submit", (event) => {
    if (event.target.method === "post") {
      event.preventDefault();
      send(event.target);
    }
  });

  async function copy(button) {
    const source = byId(button.dataset.copy);
    if (navigator.clipboard) {
      await navigator.clipboard.writeText(source.textContent);
    } else {
      getSelection().selectAllChildren(source);
      document.execCommand("copy"); // the only way on a page without TLS on another machine
    }
    const label = button.firstChild;
    label.textContent = "Copied";
    setTimeout(() => { label.textContent = "Copy"; }, 2000);
  }

  for (const button of document.querySelectorAll("[data-copy]")) {
    button.hidden = false;
    button.addEventListener("click", () => copy(button));
  }

  prepare(document);
  connect();
})();
