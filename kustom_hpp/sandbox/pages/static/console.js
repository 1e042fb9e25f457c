/* Keeps the console up to date: pieces of it come as server-sent events, and each takes the place of the old one. */

"use strict";

(() => {
  const byId = (id) => document.getElementById(id);
  const main = byId("main");
  const list = byId("sessions");
  const search = byId("q");
  const most = Number(main.dataset.most);
  let source = null;
  let again = 0;
  let first = true;
  let shown = "";

  function say(state, text) {
    const live = byId("live");
    if (live.dataset.state !== state) {
      live.dataset.state = state;
      live.textContent = text;
    }
  }

  /* Times are sent in UTC; people live somewhere. */
  function localise(root) {
    for (const time of root.querySelectorAll("time[datetime]")) {
      const at = new Date(time.dateTime);
      time.textContent = at.toLocaleTimeString("sv");
      time.title = at.toLocaleString();
    }
  }

  function parsed(html) {
    const template = document.createElement("template");
    template.innerHTML = html;
    localise(template.content);
    return template.content;
  }

  /* Part by part, so that what is open stays open and what has the focus keeps it. */
  function refresh(old, fresh) {
    old.dataset.group = fresh.dataset.group;
    for (const part of fresh.querySelectorAll("[data-part]")) {
      const there = old.querySelector(`[data-part="${part.dataset.part}"]`);
      if (there && there.outerHTML !== part.outerHTML) {
        there.replaceWith(part);
      }
    }
  }

  function update({ order, items, counts, summary, curl }) {
    for (const [group, count] of Object.entries(counts)) {
      byId(`count-${group}`).textContent = count;
    }
    if (summary !== shown) {
      shown = summary;
      byId("summary").replaceChildren(parsed(summary));
    }
    byId("curl").textContent = curl;

    const kept = new Set(order.map((id) => `s-${id}`));
    for (const item of [...list.children]) {
      if (!kept.has(item.id)) {
        item.remove();
      }
    }
    let place = list.firstElementChild;
    for (const id of order) {
      let item = byId(`s-${id}`);
      const html = items[id];
      if (!item && !html) {
        continue;
      }
      if (!item) {
        item = parsed(html).firstElementChild;
        item.classList.toggle("fresh", !first);
        list.insertBefore(item, place);
        continue;
      }
      if (html) {
        refresh(item, parsed(html).firstElementChild);
      }
      if (item === place) {
        place = place.nextElementSibling;
      } else {
        list.insertBefore(item, place);
      }
    }
    first = false;

    const asked = new URLSearchParams(location.search);
    const blank = order.length === 0 && !asked.get("q") && !asked.get("status");
    byId("start").hidden = !blank;
    byId("found").hidden = blank;
    byId("nothing").hidden = order.length > 0;
    byId("more").hidden = order.length < most;
  }

  function connect() {
    if (source) {
      source.close();
    }
    clearTimeout(again);
    source = new EventSource(main.dataset.stream + location.search);
    source.onopen = () => say("on", "Live");
    source.onmessage = (event) => update(JSON.parse(event.data));
    source.onerror = () => {
      say("lost", "Connection lost, trying again");
      // A browser tries again by itself, but not after an answer that is no stream.
      if (source.readyState === EventSource.CLOSED) {
        again = setTimeout(connect, 2000);
      }
    };
  }

  function narrow() {
    const asked = new URLSearchParams(location.search);
    const query = search.value.trim();
    if (query) {
      asked.set("q", query);
    } else {
      asked.delete("q");
    }
    const text = asked.toString();
    history.replaceState(null, "", text ? `/?${text}` : "/");
    for (const link of document.querySelectorAll(".tile")) {
      const url = new URL(link.href);
      if (query) {
        url.searchParams.set("q", query);
      } else {
        url.searchParams.delete("q");
      }
      link.href = url.pathname + url.search;
    }
    first = true;
    connect();
  }

  let waiting = 0;
  search.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(narrow, 200);
  });
  search.form.addEventListener("submit", (event) => {
    event.preventDefault();
    clearTimeout(waiting);
    narrow();
  });
  search.form.querySelector("button").hidden = true;

  localise(document);
  connect();
})();
