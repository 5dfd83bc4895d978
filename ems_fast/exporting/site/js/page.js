// The page: loads the model, embeds the lines, and shows a sentence's nearest ones while it is typed.
"use strict";
{
  const SHOWN = 10;
  const STARTERS = 6;
  const SLICE_MS = 12; // of work before the browser may draw
  const QUIET_MS = 500; // after the last key before a screen reader is told
  const about = emsFast.about, groups = emsFast.lines;
  const byId = (id) => document.getElementById(id);
  const query = byId("query"), results = byId("results"), show = byId("show");
  let tokenizer, table, index;
  let chosen = -1; // the line whose neighbours are shown
  let announcing = 0, asked = 0;

  // -- text ------------------------------------------------------------------------------------

  const names = new Intl.DisplayNames(["en"], { type: "language", fallback: "code" });

  // A code of the project, such as zh_hans or pt-br, as browsers spell it; "" if they would not.
  function tag(code) {
    try {
      return Intl.getCanonicalLocales((code ?? "").replaceAll("_", "-"))[0] ?? "";
    } catch {
      return "";
    }
  }

  function languageName(code) {
    if (!code) return "no language named";
    const known = tag(code);
    return known ? `${names.of(known)} (${code})` : code;
  }

  const count = (number, noun) => `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;

  function element(name, className, text) {
    const made = document.createElement(name);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  }

  // -- what is shown -----------------------------------------------------------------------------

  function rowOf(line, cosine) {
    const code = groups[index.groups[line]].language;
    const button = element("button");
    button.type = "button";
    button.dataset.line = line;
    if (cosine !== null) {
      const bar = element("span", "bar");
      bar.style.width = `${Math.max(0, Math.min(1, cosine)) * 100}%`;
      button.append(bar);
    }
    const text = element("span", "text", index.texts[line]);
    text.dir = "auto";
    if (tag(code)) text.lang = tag(code);
    button.append(text);
    if (code) button.append(element("span", "language", languageName(code)));
    if (cosine !== null) {
      const number = element("span", "cosine", cosine.toFixed(2));
      number.title = "cosine of the two vectors";
      button.append(number);
    }
    const item = element("li");
    item.append(button);
    return item;
  }

  function say(text) {
    clearTimeout(announcing);
    announcing = setTimeout(() => (byId("status").textContent = text), QUIET_MS);
  }

  function showStarters() {
    const total = index.texts.length;
    const some = Array.from({ length: Math.min(STARTERS, total) }, (_, i) =>
      Math.floor(((i + 0.5) * total) / Math.min(STARTERS, total)),
    );
    results.replaceChildren(...some.map((line) => rowOf(line, null)));
    byId("heading").textContent = `Type a sentence, or take one of the ${count(total, "line")}`;
    byId("timing").textContent = "";
    byId("reading").hidden = true;
    say("");
  }

  function showPieces(ids) {
    const read = ids.slice(0, table.maxTokens);
    const spans = [];
    for (let t = 0; t < read.length; ++t) {
      const piece = element("span", "", tokenizer.piece(read[t]));
      const paired = t > 0 && table.phrase(read[t - 1], read[t]) >= 0;
      if (paired && spans.at(-1).className === "pair") {
        spans.at(-1).append(piece);
      } else if (paired) {
        const pair = element("span", "pair");
        pair.append(spans.pop(), piece);
        spans.push(pair);
      } else {
        spans.push(piece);
      }
    }
    byId("pieces").replaceChildren(...spans);
    byId("reading").hidden = !read.length;
  }

  function search() {
    asked = 0;
    const text = query.value;
    if (!text.trim()) {
      showStarters();
      return;
    }
    const began = performance.now();
    const ids = tokenizer.encode(text);
    const scores = index.compare(table.unit(ids));
    const scope = show.value;
    const found =
      scope === "each"
        ? index.bestOfEach(groups.length, chosen)
        : index.best(SHOWN, scope === "all" ? null : Number(scope), chosen);
    const took = performance.now() - began;
    if (!ids.length) {
      results.replaceChildren();
      byId("heading").textContent = "Nothing in it that the model reads";
      byId("timing").textContent = "";
      say("Nothing in it that the model reads");
      byId("reading").hidden = true;
      return;
    }
    results.replaceChildren(...found.map((line) => rowOf(line, scores[line])));
    const what = chosen >= 0 ? "Neighbours of this line" : "Nearest lines";
    const cut = ids.length > table.maxTokens ? ` to its first ${table.maxTokens} tokens` : "";
    byId("heading").textContent = what + (scope === "each" ? " in every language" : "") + cut;
    byId("timing").textContent = `${took.toFixed(1)} ms`;
    byId("timing").dataset.ms = took;
    const first = found.length ? `; the nearest: ${index.texts[found[0]]}` : "";
    say(`${count(found.length, "line")}${first}`);
    showPieces(ids);
  }

  function searchSoon() {
    if (!asked) asked = requestAnimationFrame(search);
  }

  // -- what is done ------------------------------------------------------------------------------

  function listen() {
    query.addEventListener("input", () => {
      chosen = -1;
      searchSoon();
    });
    show.addEventListener("change", searchSoon);
    byId("form").addEventListener("submit", (event) => event.preventDefault());
    results.addEventListener("click", (event) => {
      const button = event.target.closest("button");
      if (!button) return;
      chosen = Number(button.dataset.line);
      query.value = index.texts[chosen];
      query.focus();
      searchSoon();
    });
    document.addEventListener("keydown", (event) => {
      const buttons = [...results.querySelectorAll("button")];
      const at = buttons.indexOf(document.activeElement);
      const inQuery = document.activeElement === query;
      if (event.target === show) return; // has a use for these keys itself
      if (event.key === "Escape") {
        chosen = -1;
        query.value = "";
        query.focus();
        searchSoon();
      } else if (inQuery && event.key === "ArrowDown") {
        if (query.selectionEnd < query.value.length && query.value.includes("\n")) return;
        buttons[0]?.focus();
      } else if (inQuery && event.key === "Enter" && !event.shiftKey && !event.isComposing) {
        buttons[0]?.focus();
      } else if (at >= 0 && event.key === "ArrowDown") {
        buttons[at + 1]?.focus();
      } else if (at >= 0 && event.key === "ArrowUp") {
        (buttons[at - 1] ?? query).focus();
      } else {
        return;
      }
      event.preventDefault();
    });
  }

  // -- the beginning -----------------------------------------------------------------------------

  function stage(text, done) {
    byId("stage").textContent = text;
    byId("progress").value = done;
  }

  const drawn = () => new Promise((resolve) => setTimeout(resolve));

  function tell() {
    document.title = `Nearest sentences · ${about.name}`;
    const spoken = about.languages.length;
    byId("about").textContent = spoken
      ? `A sentence in one of ${count(spoken, "language")} finds the lines that mean the same.`
      : "A sentence finds the lines that mean the same.";
    const bytes = about.files.reduce((sum, file) => sum + file.bytes, 0);
    const facts = [
      `model ${about.name}`,
      `${(bytes / 1e6).toFixed(1)} MB`,
      `${about.bits} bits a number`,
      `${about.width} dimensions`,
      count(about.vocabSize, "token"),
      ...(about.phrases ? [count(about.phrases, "phrase")] : []),
      `licence ${about.licence}`,
    ];
    byId("facts").replaceChildren(...facts.map((fact) => element("span", "", fact)));
    if (groups.length > 1) {
      show.append(new Option("the nearest lines", "all"), new Option("one of every language", "each"));
      groups.forEach((group, i) => show.append(new Option(languageName(group.language), i)));
      byId("scope").hidden = false;
    } else {
      show.append(new Option("the nearest lines", "all"));
    }
  }

  async function start() {
    tell();
    const bytes = about.files.reduce((sum, file) => sum + file.bytes, 0);
    const data = await emsFast.load(about.files, (done) => stage("Loading the model", done / bytes));
    stage("Reading the tokenizer", 1);
    await drawn();
    tokenizer = new emsFast.Tokenizer(data.tokenizer);
    const words = (bytes) => (bytes ? new Uint32Array(bytes.buffer) : null);
    table = new emsFast.TokenTable({
      ...about,
      rows: about.bits === 8 ? new Int8Array(data.rows.buffer) : data.rows,
      scales: new Float32Array(data.scales.buffer),
      begins: words(data.begins),
      seconds: words(data.seconds),
    });
    const texts = groups.flatMap((group) => group.lines);
    index = new emsFast.Index(texts, groups.flatMap((group, i) => group.lines.map(() => i)), table.width);
    let pause = performance.now() + SLICE_MS;
    for (let line = 0; line < texts.length; ++line) {
      index.set(line, table.unit(tokenizer.encode(texts[line])));
      if (performance.now() > pause) {
        stage("Reading the lines", (line + 1) / texts.length);
        await drawn();
        pause = performance.now() + SLICE_MS;
      }
    }
    byId("loading").hidden = true;
    query.disabled = false;
    listen();
    search();
    query.focus();
  }

  start().catch((error) => {
    const problem = element("p", "problem", `The page could not be started: ${error.message}`);
    problem.setAttribute("role", "alert");
    byId("loading").replaceChildren(problem);
    throw error;
  });
}
