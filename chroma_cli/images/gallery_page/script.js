
"use strict";
(() => {
  // Everything from a recipe is text: it enters the page through textContent and value alone.
  const $ = (id) => document.getElementById(id);
  const cards = $("cards");
  const dialog = $("detail");
  const filter = $("filter");
  const sort = $("sort");
  const order = $("order");

  const normal = (name) => name.toLowerCase().replace(/[\s-]+/g, "_");
  const items = JSON.parse($("data").textContent).map((data, index) => {
    const node = cards.children[index];
    const said = Object.entries(data.fields);
    const fields = new Map(said.map(([name, text]) => [normal(name), text]));
    fields.set("name", data.name).set("id", data.id || "").set("created", data.created || "");
    return {
      data, node, fields, index,
      link: node.querySelector("a"),
      key: node.querySelector(".key"),
      apart: node.querySelector(".key").textContent,
      haystack: [data.name, data.id, ...said.flat()].join("\n").toLowerCase(),
    };
  });
  const names = new Set(items.flatMap((item) => [...item.fields.keys()]));
  let visible = items;
  let current = items[0];

  // --- filter ---

  const NUMBER = /^[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$/i;
  const TERM = /(-(?=[\p{L}"]))?(?:([\p{L}_][\p{L}\p{N}_-]*)(<=|>=|[:=<>]))?(?:"([^"]*)"?|(\S+))/gu;

  const term = (match) => {
    const [whole, minus, rawName, sign, quoted, bare] = match;
    const wanted = (quoted ?? bare).toLowerCase();
    const name = rawName && normal(rawName);
    let test;
    if (name && names.has(name)) {
      test = (item) => item.fields.has(name) && compares(item.fields.get(name).toLowerCase(), sign, wanted);
    } else {
      const text = rawName ? whole.slice(minus ? 1 : 0).replaceAll('"', "").toLowerCase() : wanted;
      test = (item) => item.haystack.includes(text);
    }
    return minus ? (item) => !test(item) : test;
  };

  const compares = (text, sign, wanted) => {
    if (NUMBER.test(text) && NUMBER.test(wanted)) {
      const side = byNumber(text, wanted);
      return { "<": side < 0, ">": side > 0, "<=": side <= 0, ">=": side >= 0 }[sign] ?? side === 0;
    }
    return sign === "=" ? text === wanted : sign === ":" && text.includes(wanted);
  };

  const byNumber = (left, right) => {
    const side = Number(left) - Number(right);
    // A seed may have more digits than a double can tell apart.
    if (side || !/^-?\d+$/.test(left) || !/^-?\d+$/.test(right)) return side;
    const [a, b] = [BigInt(left), BigInt(right)];
    return a < b ? -1 : a > b ? 1 : 0;
  };

  // --- sort ---

  const SORTS = [
    ["name", "name", (item) => item.data.name],
    ["created", "date", (item) => item.data.created],
    ["bytes", "file size", (item) => item.data.bytes],
    ...[...new Set(items.flatMap((item) => Object.keys(item.data.fields)))].map((name) => [
      "field " + name, name, (item) => item.data.fields[name],
    ]),
  ].filter(([, , get]) => items.some((item) => get(item) != null));
  for (const [value, label] of SORTS) sort.append(new Option(label, value));

  const collator = new Intl.Collator("en", { numeric: true, sensitivity: "base" });
  const pixels = (text) => /^\d+x\d+$/.test(text) && text.split("x").reduce((a, b) => String(a * b));

  const byValue = (left, right) => {
    if (NUMBER.test(left) && NUMBER.test(right)) return byNumber(left, right);
    const [a, b] = [pixels(left), pixels(right)];
    if (a && b && a !== b) return a - b;
    if (NUMBER.test(left) !== NUMBER.test(right)) return NUMBER.test(left) ? -1 : 1;
    return collator.compare(left, right);
  };

  const arrange = () => {
    const [value, label, get] = SORTS.find(([id]) => id === sort.value) ?? ["name", "name", (item) => item.data.name];
    const down = order.getAttribute("aria-pressed") === "true" ? -1 : 1;
    const keyed = items.map((item) => [get(item), item]);
    keyed.sort(([a, left], [b, right]) => {
      // What is unknown comes last in either direction.
      if (a == null || b == null) return (a == null) - (b == null) || left.index - right.index;
      return down * byValue(String(a), String(b)) || left.index - right.index;
    });
    const fragment = document.createDocumentFragment();
    const shown = value !== "name" && value !== "field prompt";
    for (const [text, item] of keyed) {
      item.key.textContent = shown && text != null ? `${label} ${text}` : item.apart;
      fragment.append(item.node);
    }
    cards.append(fragment);
    items.splice(0, items.length, ...keyed.map(([, item]) => item));
    narrow();
  };

  const narrow = () => {
    const tests = [...filter.value.trim().matchAll(TERM)].map(term);
    visible = items.filter((item) => tests.every((test) => test(item)));
    const kept = new Set(visible);
    for (const item of items) item.node.hidden = !kept.has(item);
    if (!kept.has(current)) settle(visible[0]);
    const all = `${items.length} picture${items.length === 1 ? "" : "s"}`;
    $("count").textContent = kept.size === items.length ? all : `${kept.size} of ${all}`;
    $("none").hidden = kept.size > 0 || items.length === 0;
  };

  // --- moving about ---

  // One stop for the tab key; the arrows do the rest.
  const settle = (item) => {
    if (current) current.link.tabIndex = -1;
    current = item;
    if (current) current.link.tabIndex = 0;
  };

  const go = (item) => {
    if (!item) return;
    settle(item);
    item.link.focus();
    item.node.scrollIntoView({ block: "nearest" });
  };

  const columns = () => getComputedStyle(cards).gridTemplateColumns.split(" ").length;

  const moved = (key) => {
    const at = visible.indexOf(current);
    const last = visible.length - 1;
    const to = {
      ArrowLeft: at - 1, ArrowRight: at + 1, ArrowUp: at - columns(), ArrowDown: at + columns(), Home: 0, End: last,
    }[key];
    return to === undefined ? undefined : visible[to] ?? current;
  };

  const onGrid = (event) => {
    const typing = event.target.closest("input, select");
    if (event.key === "/" && !typing) {
      filter.focus();
      filter.select();
    } else if (event.target === filter && event.key === "Escape") {
      if (filter.value) {
        filter.value = "";
        narrow();
      } else go(current);
    } else if (event.target === filter && (event.key === "ArrowDown" || event.key === "Enter")) {
      go(visible[0]);
    } else if (!typing && event.key === "c" && event.target === current?.link) {
      copy(current.data.command, "The command", $("toast"));
    } else if (!typing && (event.target === current?.link || event.target === document.body)) {
      const target = moved(event.key);
      if (!target) return;
      go(target);
    } else return;
    event.preventDefault();
  };

  // --- one picture ---

  let opened = null;
  let wanted = null;

  const show = (item) => {
    opened = item;
    settle(item);
    const { data } = item;
    const small = item.node.querySelector("img");
    const href = item.link.getAttribute("href");
    $("detail-name").textContent = data.name;
    $("place").textContent = `${visible.indexOf(item) + 1} / ${visible.length}`;
    $("detail-sandbox").hidden = !data.sandbox;
    $("detail-prompt").textContent = data.fields.prompt ?? "No recipe is known for this picture.";
    $("detail-fields").replaceChildren(...facts(data));
    $("again").hidden = $("copy").hidden = data.command == null;
    $("command").textContent = data.command ?? "";
    $("copy-recipe").hidden = data.body == null;
    $("original").setAttribute("href", href);
    $("copied").textContent = "";
    $("previous").disabled = $("next").disabled = visible.length < 2;
    $("stage-note").hidden = true;
    const large = $("large");
    large.alt = small ? small.alt : "";
    large.hidden = !small;
    large.src = small ? small.src : "data:,";
    if (data.broken) note("This file cannot be shown: " + data.broken);
    const full = new Image();
    wanted = full;
    full.onload = () => { if (wanted === full) { large.src = full.src; large.hidden = false; } };
    full.onerror = () => { if (wanted === full && !data.broken) note("Thumbnail: the original is not beside this page"); };
    if (!data.broken) full.src = href;
    if (!dialog.open) dialog.showModal();
    dialog.querySelector(".facts").scrollTop = 0;
  };

  const note = (text) => {
    $("stage-note").textContent = text;
    $("stage-note").hidden = false;
  };

  const facts = (data) => {
    const rows = Object.entries(data.fields).filter(([name]) => name !== "prompt");
    rows.push(["file", [data.pixels, data.kilobytes].filter(Boolean).join(", ")]);
    rows.push(["made", (data.created ?? "").replace("T", " ").replace(/(\.\d+)?Z$/, " UTC")], ["request id", data.id]);
    return rows.filter(([, text]) => text).flatMap(([name, text]) => {
      const [term, description] = [document.createElement("dt"), document.createElement("dd")];
      term.textContent = name;
      description.textContent = text;
      return [term, description];
    });
  };

  const step = (by) => {
    if (visible.length) show(visible[(visible.indexOf(current) + by + visible.length) % visible.length]);
  };

  const onDetail = (event) => {
    if (event.key === "ArrowLeft") step(-1);
    else if (event.key === "ArrowRight") step(1);
    else if (event.key === "c") copy(current.data.command, "The command", $("copied"), $("command"));
    else return;
    event.preventDefault();
  };

  // --- copying ---

  const copy = async (text, what, status, fallback) => {
    if (text == null) return;
    let done = false;
    try {
      await navigator.clipboard.writeText(text);
      done = true;
    } catch {
      done = copyBySelection(text);
    }
    if (!done && fallback) getSelection().selectAllChildren(fallback);
    status.textContent = done ? `${what} is copied.` : fallback ? "Press Ctrl+C to copy." : "The browser does not let this page copy.";
    if (status === $("toast")) setTimeout(() => { status.textContent = ""; }, 2000);
  };

  // From a disk, or without the permission, the clipboard can only be reached in this old way.
  const copyBySelection = (text) => {
    const before = document.activeElement;
    const area = document.createElement("textarea");
    area.className = "away";
    area.value = text;
    (dialog.open ? dialog : document.body).append(area);
    area.select();
    let done = false;
    try {
      done = document.execCommand("copy");
    } finally {
      area.remove();
      before?.focus();
    }
    return done;
  };

  // --- wiring ---

  for (const item of items) {
    item.link.tabIndex = -1;
    item.link.setAttribute("aria-haspopup", "dialog");
  }
  cards.addEventListener("click", (event) => {
    const link = event.target.closest("a");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    show(items.find((item) => item.link === link));
  });
  cards.addEventListener("focusin", (event) => {
    const item = items.find((one) => one.link === event.target);
    if (item && item !== current) settle(item);
  });
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    if (dialog.open) onDetail(event);
    else onGrid(event);
  });
  filter.addEventListener("input", narrow);
  $("controls").addEventListener("submit", (event) => event.preventDefault());
  sort.addEventListener("change", arrange);
  order.addEventListener("click", () => {
    const down = order.getAttribute("aria-pressed") !== "true";
    order.setAttribute("aria-pressed", String(down));
    order.firstElementChild.textContent = down ? "↓" : "↑";
    arrange();
  });
  $("clear").addEventListener("click", () => { filter.value = ""; narrow(); filter.focus(); });
  $("previous").addEventListener("click", () => step(-1));
  $("next").addEventListener("click", () => step(1));
  $("close").addEventListener("click", () => dialog.close());
  $("copy").addEventListener("click", () => copy(current.data.command, "The command", $("copied"), $("command")));
  $("copy-recipe").addEventListener("click", () => copy(current.data.body, "The recipe", $("copied")));
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  dialog.addEventListener("close", () => {
    wanted = null;
    $("large").src = "data:,";
    // The browser has given the focus back to where it was before; the last picture seen is nearer.
    go(opened);
  });

  $("controls").hidden = $("keys").hidden = items.length === 0;
  settle(current);
  arrange();
})();
