"use strict";
// Everything is on the page without this script; it adds what answers to a pointer or to keys.
// Text of the page is only ever put in as text.
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const make = (tag, text, name) => {
    const node = document.createElement(tag);
    if (text !== undefined) node.textContent = text;
    if (name) node.className = name;
    return node;
  };

  // Names of languages, where the browser knows them.
  const names = new Intl.DisplayNames(["en"], { type: "language", fallback: "none" });
  const nameOf = (code) => {
    try {
      return names.of(code.replaceAll("_", "-")) || "";
    } catch {
      return "";
    }
  };
  for (const node of all("[data-lang]")) {
    const name = nameOf(node.dataset.lang);
    if (!name) continue;
    if (node.matches("button *")) node.parentNode.title = name;
    else node.append(" ", make("small", name));
  }

  // Charts: the values under the pointer, or under a line that the arrow keys move.
  const short = (value) => value.toLocaleString("en", { maximumSignificantDigits: 4 });
  for (const svg of all(".chart svg[data-scale]")) {
    const [left, wide, most, top, tall, low, high] = svg.dataset.scale.split(",").map(Number);
    const cross = svg.querySelector(".cross");
    const readout = svg.parentNode.querySelector(".readout");
    const curves = all(".curve", svg).map((path) => ({
      path,
      points: path.getAttribute("d").slice(1).split("L").map((p) => p.split(/[ h]/).map(Number)),
    }));
    const places = [...new Set(curves.flatMap((c) => c.points.map((p) => p[0])))].sort((a, b) => a - b);
    const key = (curve) => curve.path.dataset.key;
    let at = -1;
    const show = (x) => {
      at = places.reduce((best, p, i) => (Math.abs(p - x) < Math.abs(places[best] - x) ? i : best), 0);
      x = places[at];
      cross.setAttribute("x1", x);
      cross.setAttribute("x2", x);
      cross.style.visibility = "visible";
      const lit = curves.filter((c) => !key(c) || c.path.classList.contains("on"));
      const words = lit.map((c) => {
        const [, y] = c.points.reduce((b, p) => (Math.abs(p[0] - x) < Math.abs(b[0] - x) ? p : b));
        return `${c.path.dataset.name} ${short(low + (1 - (y - top) / tall) * (high - low))}`;
      });
      readout.textContent = `${short(((x - left) / wide) * most)} ${svg.dataset.x}: ${words.join(", ")} ${svg.dataset.unit}`;
    };
    const hide = () => {
      cross.style.visibility = "hidden";
      readout.textContent = "";
    };
    svg.addEventListener("pointermove", (event) => {
      const box = svg.getBoundingClientRect();
      show(((event.clientX - box.left) / box.width) * svg.viewBox.baseVal.width);
    });
    svg.addEventListener("pointerleave", hide);
    svg.addEventListener("blur", hide);
    svg.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!step) return;
      event.preventDefault();
      show(places[Math.min(places.length - 1, Math.max(0, at + step))]);
    });
    // A language's row and its curve light each other.
    const rows = all("tr[data-key]", svg.closest(".beside") || svg);
    const light = (name) => {
      for (const c of curves) c.path.classList.toggle("on", name !== undefined && key(c) === name);
      for (const row of rows) row.classList.toggle("on", row.dataset.key === name);
      const on = curves.find((c) => c.path.classList.contains("on"));
      if (on) {
        on.path.parentNode.insertBefore(on.path, cross);
        show(on.points[on.points.length - 1][0]);
      } else hide();
    };
    for (const row of rows) {
      row.addEventListener("pointerenter", () => light(row.dataset.key));
      row.addEventListener("pointerleave", () => light());
      row.addEventListener("focus", () => light(row.dataset.key));
      row.addEventListener("blur", () => light());
    }
    rove(rows, (i, event) => i + ({ ArrowUp: -1, ArrowDown: 1 }[event.key] || 0));
  }

  // One of `nodes` is a tab stop; `move` says which is next.
  function rove(nodes, move) {
    if (nodes.length && !nodes.some((node) => node.tabIndex === 0)) nodes[0].tabIndex = 0;
    nodes.forEach((node, i) =>
      node.addEventListener("keydown", (event) => {
        const next = nodes[move(i, event)];
        if (!next || next === node) return;
        event.preventDefault();
        for (const other of nodes) other.tabIndex = -1;
        next.tabIndex = 0;
        next.focus();
      }),
    );
  }

  // The matrix.
  for (const matrix of all(".matrix")) {
    const readout = matrix.closest("section").querySelector(".readout");
    const columns = all("thead th", matrix).map((th) => th.textContent);
    const cells = all("tbody td", matrix);
    const label = (code) => {
      const name = nameOf(code);
      return name ? `${name} (${code})` : code;
    };
    const show = (cell) => {
      for (const other of cells) other.classList.toggle("at", other === cell);
      if (!cell) return;
      const from = cell.parentNode.querySelector("th").textContent;
      const to = columns[cell.cellIndex - 1];
      const n = cell.dataset.n;
      const share = cell.textContent === "·" ? "too few to say" : `${cell.textContent} % found`;
      readout.textContent = n === undefined ? label(from) : `${label(from)} → ${label(to)}: ${share}, of ${n} sentences`;
    };
    for (const cell of cells) {
      cell.tabIndex = -1;
      cell.addEventListener("pointerenter", () => show(cell));
      cell.addEventListener("focus", () => show(cell));
    }
    matrix.addEventListener("pointerleave", () => show());
    const wide = columns.length;
    rove(cells, (i, event) => {
      const column = i % wide;
      if (event.key === "ArrowLeft") return column ? i - 1 : i;
      if (event.key === "ArrowRight") return column < wide - 1 ? i + 1 : i;
      return i + ({ ArrowUp: -wide, ArrowDown: wide }[event.key] || 0);
    });
  }

  // The map.
  for (const map of all(".map")) {
    const panel = map.parentNode.querySelector(".panel");
    const hint = panel.firstElementChild;
    const points = all(".pt", map);
    const rays = all(".ray", map);
    const buttons = all(".legend-buttons button", map.closest("section"));
    const line = (point) => {
      const button = buttons[point.dataset.l];
      const code = button.querySelector("[data-lang]").dataset.lang;
      const sentence = point.getAttribute("aria-label").slice(`${code}: `.length);
      const item = make("li");
      const mark = button.querySelector("svg");
      const words = make("span", sentence);
      words.dir = "auto";
      words.lang = code.replaceAll("_", "-");
      const short = make("b", code);
      short.title = nameOf(code);
      item.append(mark.cloneNode(true), short, words);
      return item;
    };
    let kept = null; // what was clicked stays
    const look = (point) => {
      map.classList.toggle("looking", Boolean(point));
      const kin = (node) => Boolean(point) && node.dataset.m === point.dataset.m;
      for (const other of points) {
        other.classList.toggle("kin", kin(other));
        other.classList.toggle("at", other === point);
      }
      for (const ray of rays) ray.classList.toggle("kin", kin(ray));
      if (!point) return panel.replaceChildren(hint);
      const list = make("ul");
      list.append(line(point), ...points.filter((p) => kin(p) && p !== point).map(line));
      panel.replaceChildren(list);
    };
    for (const point of points) {
      point.addEventListener("pointerenter", () => look(point));
      point.addEventListener("focus", () => look(point));
      point.addEventListener("click", () => {
        kept = kept === point ? null : point;
        look(kept || point);
      });
    }
    map.addEventListener("pointerleave", () => look(kept));
    map.addEventListener("click", (event) => {
      if (!event.target.closest(".pt")) look((kept = null));
    });
    map.addEventListener("focusout", (event) => {
      if (!map.contains(event.relatedTarget)) look(kept);
    });
    const first = (i, step) => {
      const own = points[i].dataset.m;
      let next = i;
      while (points[next] && points[next].dataset.m === own) next += step;
      return next;
    };
    rove(points, (i, event) => {
      if (event.key === "ArrowLeft") return i - 1;
      if (event.key === "ArrowRight") return i + 1;
      if (event.key === "ArrowDown") return first(i, 1);
      if (event.key === "ArrowUp") return first(i, -1);
      return i;
    });
    for (const button of buttons) {
      button.addEventListener("click", () => {
        button.setAttribute("aria-pressed", button.getAttribute("aria-pressed") !== "true");
        const on = buttons.filter((b) => b.getAttribute("aria-pressed") === "true");
        const lit = new Set(on.map((b) => b.dataset.l));
        map.classList.toggle("chosen", lit.size > 0);
        for (const point of points) point.classList.toggle("lit", lit.has(point.dataset.l));
      });
    }
  }
})();
